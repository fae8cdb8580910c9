"""Workers die while they seal the audit log. Each entry has one seal, and no number is missing or there twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.application.audit_verification import verify_all
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.stack import AUDIT_ANCHORS, worker_name
from orchestrator.domain.audit_chain import by_project
from orchestrator.storage import anchor_files
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, RECOVERY, Field, field_on, kill
from tests.soak import SOAK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600 if SOAK else 240)]

WRITERS = 16
EACH = 100 if SOAK else 10
KILLS = 20 if SOAK else 4
#: Entries that are there at once, before each kill: some seconds of sealing.
BACKLOG = 20_000


async def test_workers_killed_while_they_seal(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        owner = await field.owner()
        writing = asyncio.gather(*(_write(field, number) for number in range(WRITERS)))
        caught = 0
        for round_no in range(KILLS):
            await owner.execute(
                "INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id)"
                " SELECT 1, now(), 'runtime', 'journey_paused', 'journey', n::text FROM generate_series(1, $1) AS n",
                BACKLOG,
            )
            before = await _sealed(owner)
            await eventually(lambda before=before: _has_moved(owner, before), within=RECOVERY)  # type: ignore[misc]
            for number in (1, 2) if round_no % 2 else (1 + round_no // 2 % 2,):
                await kill(stack.part(worker_name(number)))
            caught += await _waiting(owner) > 0
        await writing
        await eventually(lambda: _all_sealed(owner), within=RECOVERY)

        entries = await owner.fetchval("SELECT count(*) FROM audit_log")
        chains = await owner.fetch(
            "SELECT project_no, count(*) AS seals, count(DISTINCT audit_no) AS entries, min(seq), max(seq) AS last"
            " FROM audit_seals GROUP BY 1"
        )
        await owner.close()
        anchors = by_project(anchor_files.read([stack.addresses.data_dir / AUDIT_ANCHORS]).anchors)
        pool = await open_pool(stack.addresses.database_url, role=WORKER_ROLE, size=2, application_name="test")
        results = [result async for _, result in verify_all(Transactions(pool), anchors)]
        await pool.close()

        assert caught, "nobody was killed in the middle: nothing was tried"
        assert entries >= KILLS * BACKLOG + WRITERS * EACH
        assert sum(row["seals"] for row in chains) == entries
        for row in chains:
            assert row["min"] == 1
            assert row["last"] == row["seals"] == row["entries"], "0 gaps, 0 forks"
        assert [result.misfit for result in results] == [None] * len(results)
        assert sum(result.anchors for result in results) >= KILLS * BACKLOG // 1000


async def _write(field: Field, number: int) -> None:
    for turn in range(EACH):
        audience = {"id": f"a-{number}-{turn}", "name": "A", "predicate": {"kind": "everyone"}}
        await field.call("POST", "/v1/audiences", audience)


async def _sealed(owner: Connection[Record]) -> int:
    found: int = await owner.fetchval("SELECT coalesce(max(seq), 0) FROM audit_seals WHERE project_no = 1")
    return found


async def _has_moved(owner: Connection[Record], before: int) -> bool:
    return await _sealed(owner) > before


async def _waiting(owner: Connection[Record]) -> int:
    found: int = await owner.fetchval("SELECT count(*) FROM audit_unsealed")
    return found


async def _all_sealed(owner: Connection[Record]) -> bool:
    return await _waiting(owner) == 0
