"""Three projects whose things have the same names: nobody learns or changes anything of another one's.

All of it twice: with the server as it is, and with one whose statements have lost every `project_no = $n`, in which
nothing but row-level security is left.
"""

from __future__ import annotations

import json
import os
import random
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.policy import POLICY
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.domain.scope import Role
from orchestrator.storage import audit, pool
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from tests.acceptance import unfiltered
from tests.acceptance.good_calls import Json, documents
from tests.acceptance.ground import NOUNS, Ground, Project, served_ground
from tests.acceptance.http_requests import good_http
from tests.acceptance.raw_calls import OK, Outcome, call_grpc
from tests.acceptance.request_fields import message_of
from tests.acceptance.unfiltered import UnfilteredConnection, without_filters
from tests.integration.api.callers import RPCS
from tests.soak import SOAK

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

#: Calls with each of the two servers: a twentieth of what `make soak` makes.
CALLS = 500
ALL_CALLS = [
    pytest.mark.faults,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not SOAK, reason="make soak has the time"),
]
#: Between two looks at what the others have. Then there are new projects, as the old ones have been used up.
ROUND = 500

EVERYTHING = tuple(dict.fromkeys(noun for nouns in NOUNS.values() for noun in nouns))
#: Called less often: after them there is less to look at.
ENDING = re.compile(r"Delete|Archive|Revoke|Merge|Cancel|Forget")
CALLABLE = sorted(name.rpartition("/")[2] for name, rule in POLICY.items() if Role.OWNER in rule.roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    ground: Ground
    dice: random.Random
    seed: int
    config: pytest.Config


@pytest.fixture(scope="module", params=["as it is", "without filters"])
async def world(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, template: str) -> AsyncIterator[World]:
    seed = int(os.environ.get("ORCHESTRATOR_SEED", "20261130"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "without filters":
            patch.setattr(pool, "ProjectConnection", UnfilteredConnection)
        async with served_ground(postgres, template) as ground:
            yield World(ground=ground, dice=random.Random(seed), seed=seed, config=request.config)


def test_every_filter_by_project_is_lost() -> None:
    statement = "SELECT 1 FROM a JOIN b USING (project_no) WHERE a.project_no = $1 AND b.project_no=$12::int AND c = $2"

    assert without_filters(statement) == (
        "SELECT 1 FROM a JOIN b USING (project_no) WHERE $1::int IS NOT NULL AND $12::int IS NOT NULL AND c = $2"
    )


async def test_without_filters_and_without_row_level_security_projects_see_each_other(
    database: str, owner: Connection[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the loss of filters would prove nothing."""
    await owner.execute(
        "INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id)"
        " SELECT n, now(), 'a', 'a', 'a', 'a' FROM generate_series(1, 3) AS n"
    )
    monkeypatch.setattr(pool, "ProjectConnection", UnfilteredConnection)
    found: dict[str, int] = {}
    for role in (WORKER_ROLE, API_ROLE):
        connections: Pool[Record] = await open_pool(database, role=role, size=1, application_name="test")
        try:
            async with Transactions(connections).read(1) as conn:
                found[role] = len(await audit.newest(conn, 1, None, None, before=None, limit=10))
        finally:
            await connections.close()

    assert found == {WORKER_ROLE: 3, API_ROLE: 1}


@pytest.mark.parametrize("calls", [CALLS, pytest.param(20 * CALLS, marks=ALL_CALLS)])
async def test_calls_with_others_ids_show_and_change_nothing_of_theirs(world: World, calls: int) -> None:
    ground, dice = world.ground, world.dice
    codes: Counter[str] = Counter()
    called: set[str] = set()
    shown = 0
    unfiltered.lost.clear()
    for start in range(0, calls, ROUND):
        projects = [await _furnished(ground, f"p{calls}-{start}-{letter}") for letter in "abc"]
        own = {project.project_id: await _marks(ground, project) for project in projects}
        caller, *others = dice.sample(projects, 3)
        before = [await _rows(ground, other) for other in others]
        for number in range(ROUND):
            rpc = dice.choice([name for name in CALLABLE if not ENDING.match(name) or dice.random() < 0.1])
            named = dice.choice(projects)
            request = dice.choice(documents(rpc, named, dice.randrange(2)))
            answer = await _answer(ground, dice.choice(("grpc", "http")), rpc, request, caller.owner_key)
            said = json.dumps(request)
            for other in others:
                foreign = [mark for mark in own[other.project_id] if mark not in said and mark in answer.told]
                assert not foreign, (world.seed, start + number, rpc, request, foreign, answer.told[:500])
            shown += any(mark in answer.told for mark in own[caller.project_id])
            codes[answer.code] += 1
            called.add(rpc)
        for other, rows in zip(others, before, strict=True):
            assert await _rows(ground, other) == rows, (world.seed, start, other.project_id)

    _print(world.config, f"tenancy: {calls} calls of {len(called)} RPCs, 0 foreign bytes: {dict(codes)}")
    assert codes[OK] > calls // 3, "most found nothing: nothing was tried"
    assert shown > calls // 10, "not even the caller's own things were shown: nothing was tried"
    assert not {"INTERNAL", "UNKNOWN", "UNAUTHENTICATED", "PERMISSION_DENIED"} & codes.keys()
    if pool.ProjectConnection is UnfilteredConnection:
        _print(world.config, f"tenancy: {len(unfiltered.lost)} statements had lost their project")
        assert len(unfiltered.lost) > 100


async def test_what_is_anothers_and_what_is_not_there_are_told_alike(world: World) -> None:
    """Every RPC: once with ids that another project has, once with ids that nobody has."""
    ground = world.ground
    theirs = await _furnished(ground, "theirs")
    own = await _marks(ground, theirs)
    missing = 0
    for rpc in CALLABLE:
        ours = [await ground.project(f"{who}-{rpc.lower()}", ()) for who in ("one", "other")]
        nobodys = _nobodys(theirs)
        for transport in ("grpc", "http"):
            asked = documents(rpc, _named(theirs, ours[0]), 0)[0]
            foreign = await _answer(ground, transport, rpc, asked, ours[0].owner_key)
            asked = documents(rpc, _named(nobodys, ours[1]), 5)[0]
            absent = await _answer(ground, transport, rpc, asked, ours[1].owner_key)
            said = json.dumps(documents(rpc, theirs, 0)[0])
            assert not [mark for mark in own if mark not in said and mark in foreign.told], (rpc, foreign.told[:500])
            assert foreign.code == absent.code, (rpc, foreign, absent)
            if foreign.code != OK:
                assert _blurred(foreign.told, theirs, 0) == _blurred(absent.told, nobodys, 5), rpc
            missing += foreign.code == "NOT_FOUND"
    _print(world.config, f"tenancy: {missing} answers NOT_FOUND, for another's things as for none")
    assert missing > 100


async def _furnished(ground: Ground, project_id: str) -> Project:
    """A project with one of everything, called as in any other."""
    return await ground.project(project_id, EVERYTHING, mark=f"of-{uuid.uuid4().hex}")


def _ids(project: Project) -> dict[str, list[str]]:
    """Of its things those whose ids the server gave, by kind."""
    listed = {field.name: getattr(project, field.name) for field in fields(project)}
    return {kind: ids for kind, ids in listed.items() if isinstance(ids, list)}


async def _marks(ground: Ground, project: Project) -> set[str]:
    """What only this project has."""
    marks = {project.mark, project.project_id}.union(*_ids(project).values())
    rows = await ground.owner.fetch("SELECT workflow_id FROM executions WHERE project_no = $1", project.project_no)
    return marks | {row["workflow_id"] for row in rows if project.project_id in row["workflow_id"]}


async def _rows(ground: Ground, project: Project) -> dict[str, tuple[int, int]]:
    """All that it has, but for what is being told to Temporal beside calls."""
    found = await ground.checksums(project.project_no)
    return {table: rows for table, rows in found.items() if not table.startswith("outbox")}


def _nobodys(like: Project) -> Project:
    """Ids of the same form that are nobody's."""
    others: dict[str, Any] = {kind: [_other(ids[0]) for _ in range(6)] for kind, ids in _ids(like).items()}
    return replace(like, **others)


def _other(an_id: str) -> str:
    """Its last ten characters are other ones of their kind."""
    head, tail = an_id[:-10], an_id[-10:]
    return head + re.sub(r"[0-9a-f]", lambda _: random.choice("0123456789abcdef"), tail)


def _named(project: Project, caller: Project) -> Project:
    """Its things, in a request that names the caller's project where a project is named."""
    return replace(project, project_id=caller.project_id)


def _blurred(told: str, project: Project, number: int) -> str:
    """Without the ids that the caller gave."""
    for listed in _ids(project).values():
        told = told.replace(listed[number], "<id>")
    return re.sub(rf"([a-z_]+)-{number}\b", r"\1-<n>", told)


async def _answer(ground: Ground, transport: str, rpc: str, request: Json, key: str) -> Outcome:
    """All that the caller is told, as text."""
    method = RPCS[rpc]
    if transport == "grpc":
        outcome = await call_grpc(ground.grpc, method, message_of(method, request).SerializeToString(), key)
    else:
        outcome = await ground.http.call(rpc, good_http(method, request), key)
    return replace(outcome, told=outcome.told + _text(outcome.response))


def _text(response: Any) -> str:
    if isinstance(response, bytes):
        return response.decode("utf-8", errors="replace")
    return json.dumps(response, default=str) if isinstance(response, dict) else str(response or "")


def _print(config: pytest.Config, line: str) -> None:
    """Past pytest's capture, since it is part of the answer."""
    reporter, capture = (config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    assert reporter is not None
    assert capture is not None
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(line)
