"""Projects moved between two servers, each with a database of its own, by command line and with curl's requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.api.field_limits import MAX_REQUEST_BYTES
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.scope import Role
from tests.acceptance.command_line import CommandLine
from tests.acceptance.ground import Ground, Project, served_ground
from tests.acceptance.journey_files import CHECK, REMINDERS, RENEWAL, WELCOME
from tests.integration.bundle_world import rich

DOCUMENTS = f"{REMINDERS}{RENEWAL}---\n{(WELCOME / 'journey.yaml').read_text(encoding='utf-8')}---\n{CHECK}"
TEXT = {"name": "T", "channel": "log", "category": "marketing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A project on a server, and its owner's command line."""

    ground: Ground
    project: Project
    run: CommandLine

    async def with_role(self, role: Role) -> CommandLine:
        return self.run.but(ORCHESTRATOR_API_KEY=await self.ground.keys.admit(role, self.project.project_no))

    async def written(self) -> object:
        """What any change of the project changes; the answers that are kept for repeats of requests are no change."""
        sums = await self.ground.checksums(self.project.project_no)
        return {name: found for name, found in sums.items() if name != "idempotency"}


@pytest.fixture(scope="module")
async def grounds(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[list[Ground]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(served_ground(postgres, template)) for _ in range(2)]


async def server(ground: Ground) -> Server:
    project = await ground.project(f"p-{uuid.uuid4().hex[:12]}", ())
    address = f"127.0.0.1:{ground.grpc_port}"
    run = CommandLine(environment={"ORCHESTRATOR_ADDRESS": address, "ORCHESTRATOR_API_KEY": project.owner_key})
    return Server(ground=ground, project=project, run=run)


@pytest.fixture
async def there(grounds: list[Ground]) -> Server:
    return await server(grounds[0])


@pytest.fixture
async def here(grounds: list[Ground]) -> Server:
    return await server(grounds[1])


async def test_a_project_moves_to_another_server_byte_for_byte(there: Server, here: Server, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    applied = await there.run("apply", "-f", "-", stdin=DOCUMENTS)
    await there.run("import", "-", stdin=json.dumps(rich()))

    exported = await there.run("export", "-o", str(first))
    as_yaml = await there.run("export")
    itself = await there.run("import", str(first), "-o", "json")
    before = await here.written()
    rehearsed = await here.run("import", str(first), "--dry-run", "-o", "json")
    untouched = await here.written()
    imported = await here.run("import", str(first), "-o", "json")
    after = await here.written()
    again = await here.run("import", "-", "-o", "json", stdin=as_yaml.out)
    await here.run("export", "-o", str(second))

    assert (applied.code, exported.code) == (0, 0), (applied.err, exported.err)
    assert second.read_bytes() == first.read_bytes()
    assert untouched == before != after == await here.written()
    assert {**rehearsed.json, "etag": ""} == {**imported.json, "etag": ""}
    assert imported.json["createdCount"] > 20
    assert imported.json["publishedCount"] == 4
    assert {change["action"] for ran in (itself, again) for change in ran.json["changes"]} == {"unchanged"}
    assert "not in it: apiKey" in exported.err


async def test_journeys_move_with_what_they_name_and_nothing_else(there: Server, here: Server) -> None:
    await there.run("import", "-", stdin=json.dumps(rich()))

    exported = await there.run("export", "welcome", "--no-settings")
    imported = await here.run("import", "-", "--paused", "-o", "json", stdin=exported.out)
    journey = (await here.run("journeys", "get", "welcome", "-o", "json")).json

    assert [(change["kind"], change["id"]) for change in imported.json["changes"]] == [
        *[("segment", one) for one in ("c-friends", "b-buyers", "a-pros")],
        ("audience", "not-friends"),
        ("communication", "hello"),
        *[("triggerContract", one) for one in ("became-pro", "signed-up")],
        ("journey", "welcome"),
    ]
    assert (journey["status"], imported.json["publishedCount"]) == ("paused", 1)
    assert "LIST_IS_EMPTY" in imported.err
    assert (await there.run("export", "nowhere")).code == 3


async def test_admins_import_and_export_all_but_settings(there: Server, here: Server) -> None:
    await there.run("import", "-", stdin=json.dumps(rich()))
    admin, editor = await here.with_role(Role.ADMIN), await here.with_role(Role.EDITOR)
    text = (await (await there.with_role(Role.ADMIN))("export")).out

    refused = await admin("import", "-", stdin=text)
    imported = await admin("import", "-", "--no-settings", stdin=text)

    assert (refused.code, imported.code) == (4, 0)
    assert "settings" in refused.err
    assert [(await editor(*call, stdin=text)).code for call in (("export",), ("import", "-"))] == [4, 4]


async def test_over_http_a_repeat_gets_the_first_answer_and_a_stale_etag_none(here: Server) -> None:
    headers = {"Authorization": f"Bearer {here.project.owner_key}", "X-Timeout-Ms": "60000"}
    async with httpx.AsyncClient(base_url=f"http://{here.ground.http.address}", headers=headers) as http:
        exported: dict[str, Any] = (await http.get("/v1/bundle")).json()
        stale = {"If-Match": f'"{exported["etag"]}"'}
        first = await http.post("/v1/bundle:import", json=rich(), headers={"Idempotency-Key": "once"})
        await http.patch("/v1/segments/a-pros", json={"name": "Changed since"})
        second = await http.post("/v1/bundle:import", json=rich(), headers={"Idempotency-Key": "once"})
        refused = await http.post("/v1/bundle:import", json=rich(), headers=stale)
        segment = (await http.get("/v1/segments/a-pros")).json()
        texts = [{**TEXT, "id": f"text-{number}", "body": "x" * 30_000} for number in range(50)]
        large = await http.post("/v1/bundle:import", json={"formatVersion": 1, "communications": texts})

    assert (first.status_code, second.status_code, first.content == second.content) == (200, 200, True)
    assert segment["name"] == "Changed since"
    assert (refused.status_code, refused.json()["error"]["details"][0]["reason"]) == (409, "ETAG_MISMATCH")
    assert len(texts) * 30_000 > MAX_REQUEST_BYTES  # of other requests
    assert (large.status_code, large.json()["createdCount"]) == (200, 50)
