"""Subjects, preferences and suppressions over HTTP: the same calls gRPC has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from orchestrator.server import running
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

KEY = "owner-key-of-a-subjects-test"


@pytest.fixture
async def http(database: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(database_url=database, api_key=SecretStr(KEY), grpc_port=0, http_port=0)
    async with (
        running(settings) as server,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.http_port}/v1", headers={"X-Api-Key": KEY}, timeout=20
        ) as client,
    ):
        yield client


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refusal(response: httpx.Response) -> tuple[int, str, list[tuple[str, str]]]:
    """(status, reason, [(path, reason)])."""
    details = response.json()["error"]["details"]
    info = next(detail for detail in details if detail["@type"].endswith("ErrorInfo"))
    violations = [
        (violation["field"], violation["reason"])
        for detail in details
        if detail["@type"].endswith("BadRequest")
        for violation in detail["fieldViolations"]
    ]
    return response.status_code, info["reason"], violations


async def test_a_subject_comes_back_as_it_was_put(http: httpx.AsyncClient) -> None:
    attributes = {"plan": "pro", "n": 5, "x": 1.5, "deep": {"list": [1, None, {"a": True}]}}
    put = ok(await http.put("/subjects/user-1", json={"attributes": attributes, "timeZone": "Europe/Berlin"}))

    assert put == ok(await http.get("/subjects/user-1"))
    assert (put["id"], put["attributes"], put["timeZone"]) == ("user-1", attributes, "Europe/Berlin")
    assert put["createdAt"] == put["updatedAt"]


async def test_put_merges_and_null_removes(http: httpx.AsyncClient) -> None:
    first = ok(await http.put("/subjects/user-1", json={"attributes": {"a": 1, "b": {"c": 2, "d": 3}}}))

    second = ok(await http.put("/subjects/user-1", json={"attributes": {"a": None, "b": {"c": None}}}))

    assert second["attributes"] == {"b": {"d": 3}}
    assert second["etag"] != first["etag"]


async def test_a_stale_etag_is_refused(http: httpx.AsyncClient) -> None:
    first = ok(await http.put("/subjects/user-1", json={"attributes": {"a": 1}}))
    ok(await http.put("/subjects/user-1", json={"attributes": {"a": 2}, "etag": first["etag"]}))

    stale = await http.put("/subjects/user-1", json={"attributes": {"a": 3}, "etag": first["etag"]})

    assert refusal(stale)[:2] == (409, "ETAG_MISMATCH")


async def test_what_is_wrong_has_its_path(http: httpx.AsyncClient, owner: Connection[Record]) -> None:
    one = await http.put("/subjects/user-1", json={"attributes": {"a": "x" * 70_000}, "timeZone": "Mars/Olympus"})
    many = await http.post(
        "/subjects:batchUpsert", json={"subjects": [{"id": "a"}, {"id": "a"}, {"id": "b", "timeZone": "x"}]}
    )

    assert refusal(one) == (400, "TOO_LARGE", [("attributes", "TOO_LARGE")])
    assert refusal(many) == (
        400,
        "DUPLICATE_ID",
        [("subjects[1].id", "DUPLICATE_ID"), ("subjects[2].timeZone", "INVALID_VALUE")],
    )
    assert await owner.fetchval("SELECT count(*) FROM subjects") == 0


async def test_a_batch_says_how_many_were_new(http: httpx.AsyncClient) -> None:
    ok(await http.put("/subjects/user-1", json={}))

    done = ok(
        await http.post(
            "/subjects:batchUpsert",
            json={"subjects": [{"id": f"user-{n}", "attributes": {"n": n}} for n in range(3)]},
        )
    )

    assert done == {"createdCount": 2, "updatedCount": 1}


async def test_validate_only_writes_nothing(http: httpx.AsyncClient, owner: Connection[Record]) -> None:
    shown = ok(await http.put("/subjects/user-1?validateOnly=true", json={"attributes": {"a": 1}}))

    assert shown["attributes"] == {"a": 1}
    assert await owner.fetchval("SELECT count(*) FROM subjects") == 0


async def test_a_repeat_with_the_same_key_is_the_first_request(http: httpx.AsyncClient) -> None:
    again = {"Idempotency-Key": "k1"}
    first = ok(await http.put("/subjects/user-1", json={"attributes": {"a": 1}}, headers=again))
    ok(await http.put("/subjects/user-1", json={"attributes": {"a": 2}}))

    second = ok(await http.put("/subjects/user-1", json={"attributes": {"a": 1}}, headers=again))

    assert second == first
    assert (ok(await http.get("/subjects/user-1")))["attributes"] == {"a": 2}


async def test_pages_hold_every_subject_once_newest_first(http: httpx.AsyncClient) -> None:
    for number in range(5):
        ok(await http.put(f"/subjects/user-{number}", json={}))
    shown: list[str] = []
    token = ""
    for size in (2, 2, 1):
        page = ok(await http.get("/subjects", params={"pageSize": 2, "pageToken": token}))
        assert len(page["subjects"]) == size
        shown += [subject["id"] for subject in page["subjects"]]
        token = page.get("nextPageToken", "")

    assert shown == [f"user-{number}" for number in (4, 3, 2, 1, 0)]
    assert token == ""


async def test_a_deleted_subject_is_gone(http: httpx.AsyncClient) -> None:
    put = ok(await http.put("/subjects/user-1", json={"attributes": {"a": 1}}))

    stale = await http.delete("/subjects/user-1", params={"etag": f"{put['etag']}0"})
    ok(await http.delete("/subjects/user-1", params={"etag": put["etag"]}))

    assert refusal(stale)[:2] == (409, "ETAG_MISMATCH")
    assert refusal(await http.get("/subjects/user-1"))[:2] == (404, "SUBJECT_NOT_FOUND")
    assert refusal(await http.delete("/subjects/user-1"))[:2] == (404, "SUBJECT_NOT_FOUND")


async def test_preferences_are_changed_in_order(http: httpx.AsyncClient) -> None:
    changed = ok(
        await http.patch(
            "/subjects/user-1/preferences",
            json={
                "changes": [
                    {"channel": "log", "category": "marketing", "optedOut": True},
                    {"optedOut": True},
                    {"channel": "webhook", "optedOut": True},
                    {"channel": "*", "optedOut": False},
                ]
            },
        )
    )

    assert changed == ok(await http.get("/subjects/user-1/preferences"))
    assert [(opt_out["channel"], opt_out.get("category")) for opt_out in changed["optOuts"]] == [
        ("log", "marketing"),
        ("webhook", None),
    ]


async def test_preferences_of_a_channel_that_cannot_be_are_refused(http: httpx.AsyncClient) -> None:
    response = await http.patch(
        "/subjects/user-1/preferences", json={"changes": [{"optedOut": True}, {"channel": "No!", "optedOut": True}]}
    )

    assert refusal(response) == (400, "INVALID_VALUE", [("changes[1].channel", "INVALID_VALUE")])


async def test_preferences_of_nobody_are_not_found(http: httpx.AsyncClient) -> None:
    assert refusal(await http.get("/subjects/user-1/preferences"))[:2] == (404, "SUBJECT_NOT_FOUND")
    assert refusal(await http.get("/subjects/user-1/suppressions"))[:2] == (404, "SUBJECT_NOT_FOUND")


async def test_suppressions_come_and_go(http: httpx.AsyncClient, owner: Connection[Record]) -> None:
    everywhere = ok(await http.post("/subjects/user-1/suppressions", json={"reason": "asked"}))
    ok(await http.post("/subjects/user-1/suppressions", json={"channel": "log", "reason": "hard_bounce"}))

    first = ok(await http.get("/subjects/user-1/suppressions", params={"pageSize": 1}))
    token = first["nextPageToken"]
    second = ok(await http.get("/subjects/user-1/suppressions", params={"pageSize": 1, "pageToken": token}))
    ok(await http.delete("/subjects/user-1/suppressions/*"))

    assert (everywhere["subjectId"], everywhere["channel"], everywhere["reason"]) == ("user-1", "*", "asked")
    assert first["suppressions"] == [everywhere]
    assert [suppression["channel"] for suppression in second["suppressions"]] == ["log"]
    assert "nextPageToken" not in second
    assert refusal(await http.delete("/subjects/user-1/suppressions/*"))[:2] == (404, "SUPPRESSION_NOT_FOUND")
    recorded = await owner.fetch("SELECT action, metadata ->> 'channel' FROM audit_log ORDER BY audit_no")
    assert [tuple(row) for row in recorded if row[0].startswith("subject")] == [
        ("subject_suppressed", "*"),
        ("subject_suppressed", "log"),
        ("subject_unsuppressed", "*"),
    ]


async def test_a_suppression_needs_a_reason(http: httpx.AsyncClient) -> None:
    response = await http.post("/subjects/user-1/suppressions", json={"channel": "log"})

    assert refusal(response) == (400, "REQUIRED", [("reason", "REQUIRED")])
