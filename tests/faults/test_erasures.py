"""Whoever erases somebody dies, in three phases or, under soak, in each; and the database is lost, and restored."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from temporalio.client import Client

from orchestrator.devstack.postgres import EmbeddedPostgres, binaries
from orchestrator.devstack.stack import worker_name
from orchestrator.domain.erasure import Phase
from tests.acceptance.forgotten_person import ENVIRONMENT, Person, ledger_of, person_on
from tests.conftest import StartStack, _administer, _create_database
from tests.eventually import eventually
from tests.faults.field import kill
from tests.soak import SOAK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

#: Those that workers do, and in which they die, each time so often. The others are over in one statement.
PHASES = [phase for phase in Phase if phase not in (Phase.TOMBSTONE, Phase.DONE)]
DEADLY = dict.fromkeys(PHASES, 2) if SOAK else dict.fromkeys([Phase.LEDGER, Phase.RUNS, Phase.ROWS], 1)

#: Whoever has done something of a phase waits before he writes that down, as long as somebody holds him up.
_HOLD_UP = """
CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(OLD.phase));
    RETURN NEW;
END $$;
CREATE TRIGGER hold_up BEFORE UPDATE OF phases ON erasures FOR EACH ROW EXECUTE FUNCTION hold_up();
"""
_IS_HELD_UP = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = hashtext($1)::oid::bigint
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


async def test_a_worker_killed_in_three_phases_or_under_soak_in_each_and_a_restored_database_leave_nothing(
    start_stack: StartStack,
    owner: Connection[Record],
    database: str,
    temporal: Client,
    postgres: EmbeddedPostgres,
    tmp_path: Path,
) -> None:
    stack = await start_stack(workers=1, environment=ENVIRONMENT, metrics_port=None)
    async with person_on(stack, owner) as (person, url):
        await person.live(url)
        backup = tmp_path / "backup"
        await shell(f"{binaries()}/pg_dump", "--format=custom", f"--file={backup}", database)
        await owner.execute(_HOLD_UP)
        for phase in DEADLY:
            await owner.execute("SELECT pg_advisory_lock(hashtext($1))", phase.value)

        erasure = await person.call("POST", f"/v1/subjects/{person.cage.subject_id}:forget", {})
        for phase, times in DEADLY.items():
            for _ in range(times):
                await held_up(owner, phase)
                await kill(stack.part(worker_name(1)))
                await let_go(owner)
            await owner.execute("SELECT pg_advisory_unlock(hashtext($1))", phase.value)
        receipt = await person.receipt(erasure["id"])

        left = person.cage.found(await person.places(database, temporal))
        assert left == {}
        assert [phase["phase"] for phase in receipt["phases"]] == [phase.value for phase in Phase][:-1]
        assert await owner.fetchval("SELECT count(*) FROM executions WHERE outcome IS NULL") == 0
        # Its ledger has it more than once, which does no harm.
        async with restored(postgres, backup) as again:
            assert person.cage.found({"postgres": [await dumped(again)]}) != {}
            said = await replayed(again, ledger_of(stack))
            assert (
                "1 erasures in the ledger, 1 of them unknown to this database: 1 subjects are forgotten again" in said
            )
            await erased_again(start_stack, again, person, temporal)


async def held_up(owner: Connection[Record], phase: Phase) -> None:
    # Temporal takes its time to delete runs, on a busy machine most of it.
    await eventually(lambda: owner.fetchval(_IS_HELD_UP, phase.value), within=240)


async def let_go(owner: Connection[Record]) -> None:
    """Once Postgres knows that whoever waited has gone: it looks for that only where something is to be said."""
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'orchestrator-worker' AND datname = current_database() AND wait_event = 'advisory'"
    )


async def shell(*command: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=STDOUT, env={**os.environ, **environment}
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@asynccontextmanager
async def restored(postgres: EmbeddedPostgres, backup: Path) -> AsyncIterator[str]:
    """The DSN of another database with what is in the backup."""
    name = await _create_database(postgres, "template0")
    await shell(f"{binaries()}/pg_restore", "--no-owner", f"--dbname={postgres.dsn(name)}", str(backup))
    yield postgres.dsn(name)
    await _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


async def dumped(database: str) -> bytes:
    return (await shell(f"{binaries()}/pg_dump", "--format=plain", database)).encode()


async def replayed(database: str, ledger: Path) -> str:
    """What the command says; the second time it finds nothing to do."""
    command = (sys.executable, "-m", "orchestrator.cli", "erasures", "replay", str(ledger))
    said = await shell(*command, DATABASE_URL=database)
    assert "0 of them unknown" in await shell(*command, DATABASE_URL=database)
    return said


async def erased_again(start_stack: StartStack, database: str, before: Person, temporal: Client) -> None:
    """Workers on the restored database leave nothing of them, and it takes them in no more."""
    # In another namespace, since workers of the lost database are still at work in the first.
    stack = await start_stack(database_url=database, temporal_namespace="default", workers=1, environment=ENVIRONMENT)
    conn = await asyncpg.connect(database)
    try:
        async with person_on(stack, conn) as (person, _):
            erasures = (await person.call("GET", "/v1/erasures", {}))["erasures"]
            assert [erasure["origin"] for erasure in erasures] == ["replay"]
            await person.receipt(erasures[0]["id"])
            assert before.cage.found(await person.places(database, temporal)) == {}
            answer = await person.http.put(f"/v1/subjects/{before.cage.alias_id}", json={})
            assert answer.json()["error"]["details"][0]["reason"] == "SUBJECT_FORGOTTEN"
    finally:
        await conn.close()
