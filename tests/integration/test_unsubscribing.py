"""The page behind the links in mail, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import bucket_of
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks, Unsubscription
from orchestrator.server import running
from orchestrator.settings import Settings
from orchestrator.storage.instance import read_secret

if TYPE_CHECKING:
    from asyncpg import Connection, Record

KEY = "owner-key-of-an-unsubscribing-test"
OLD, NEW = "old-secret-" + "x" * 32, "new-secret-" + "x" * 32


@pytest.fixture
async def http(database: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        database_url=database,
        api_key=SecretStr(KEY),
        grpc_port=0,
        http_port=0,
        unsubscribe_secrets=(SecretStr(NEW), SecretStr(OLD), SecretStr("instance")),
    )
    async with (
        running(settings) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}", timeout=20) as client,
    ):
        await client.put("/v1/subjects/ann", json={"attributes": {"email": "ann@example.org"}}, headers=OWNER)
        yield client


OWNER = {"X-Api-Key": KEY}


async def path_of(owner: Connection[Record], subject_id: str, *secrets: str, category: str = "marketing") -> str:
    """The path of a link as a worker makes it."""
    row = await owner.fetchrow("SELECT project_no, bucket, subject_no FROM subjects WHERE subject_id = $1", subject_id)
    assert row is not None
    links = UnsubscribeLinks.of(secrets, await read_secret(owner), "")
    return str(links.url(Unsubscription(key=SubjectKey(**row), channel="email", category=category)))


async def opt_outs(http: httpx.AsyncClient, subject_id: str) -> list[dict[str, Any]]:
    response = await http.get(f"/v1/subjects/{subject_id}/preferences", headers=OWNER)
    return [{name: opt_out[name] for name in ("channel", "category")} for opt_out in response.json().get("optOuts", [])]


OPTED_OUT = [{"channel": "email", "category": "marketing"}]


async def test_looking_changes_nothing_and_one_click_unsubscribes(
    http: httpx.AsyncClient, owner: Connection[Record]
) -> None:
    path = await path_of(owner, "ann", NEW)

    looked = [await http.request(verb, path) for verb in ("GET", "HEAD", "GET")]

    assert [response.status_code for response in looked] == [200, 200, 200]
    assert "<h1>Unsubscribe from " in looked[0].text
    assert '<form method="post">' in looked[0].text
    assert looked[0].headers["referrer-policy"] == "no-referrer"
    assert looked[0].headers["cache-control"] == "no-store"
    assert await opt_outs(http, "ann") == []

    pressed = await http.post(path, data={"List-Unsubscribe": "One-Click"})

    assert pressed.status_code == 200
    assert "You are unsubscribed" in pressed.text
    assert await opt_outs(http, "ann") == OPTED_OUT


async def test_a_second_click_is_as_good_as_one(http: httpx.AsyncClient, owner: Connection[Record]) -> None:
    path = await path_of(owner, "ann", NEW)
    await http.post(path)
    before = await owner.fetchval("SELECT opted_out_at FROM opt_outs")

    assert (await http.post(path)).status_code == 200
    assert (await http.get(path)).status_code == 200

    assert await owner.fetchval("SELECT opted_out_at FROM opt_outs") == before
    assert await owner.fetchval("SELECT count(*) FROM opt_outs") == 1


@pytest.mark.parametrize("secrets", [(OLD,), ()])
async def test_links_of_older_secrets_work(
    http: httpx.AsyncClient, owner: Connection[Record], secrets: tuple[str, ...]
) -> None:
    assert (await http.post(await path_of(owner, "ann", *secrets))).status_code == 200

    assert await opt_outs(http, "ann") == OPTED_OUT


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_what_is_no_link_of_ours_is_told_politely(
    http: httpx.AsyncClient, owner: Connection[Record], verb: str
) -> None:
    forged = await path_of(owner, "ann", "another-secret-" + "x" * 32)
    for path in (
        forged,
        "/unsubscribe/x",
        "/unsubscribe/" + "a" * 2000,
        forged[:-1] + ("A" if forged[-1] != "A" else "B"),
    ):
        response = await http.request(verb, path)

        assert response.status_code == 404
        assert "This link does not work" in response.text

    assert await owner.fetchval("SELECT count(*) FROM opt_outs") == 0


async def test_who_was_merged_unsubscribes_the_survivor(http: httpx.AsyncClient, owner: Connection[Record]) -> None:
    await http.put("/v1/subjects/anna", json={}, headers=OWNER)
    path = await path_of(owner, "ann", NEW)
    merged = await http.post("/v1/subjects/ann:merge", json={"intoSubjectId": "anna"}, headers=OWNER)
    assert merged.status_code == 200, merged.text

    assert (await http.get(path)).status_code == 200
    assert (await http.post(path)).status_code == 200

    assert await opt_outs(http, "anna") == OPTED_OUT


async def test_who_was_deleted_is_nobody(http: httpx.AsyncClient, owner: Connection[Record]) -> None:
    path = await path_of(owner, "ann", NEW)
    await http.delete("/v1/subjects/ann", headers=OWNER)

    assert [(await http.request(verb, path)).status_code for verb in ("GET", "POST")] == [404, 404]
    assert await owner.fetchval("SELECT count(*) FROM subjects WHERE bucket = $1", bucket_of("ann")) == 0


async def test_a_page_names_the_project_and_not_the_person(http: httpx.AsyncClient, owner: Connection[Record]) -> None:
    await owner.execute("UPDATE projects SET name = '<b>Shop & Co</b>'")
    path = await path_of(owner, "ann", NEW)

    asked, done = await http.get(path), await http.post(path)

    for page in (asked.text, done.text):
        assert "&lt;b&gt;Shop &amp; Co&lt;/b&gt;" in page
        assert "ann" not in page.replace("banner", "")


async def test_other_verbs_are_refused(http: httpx.AsyncClient) -> None:
    response = await http.delete("/unsubscribe/x")

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")
