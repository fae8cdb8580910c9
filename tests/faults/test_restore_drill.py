"""An older PostgreSQL beside a newer Temporal, restored as docs/operations.md has it: what happened since the backup is
told once more by those who told it, and nobody is sent anything twice.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from orchestrator.application.repairs import Repairs
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.postgres import SUPERUSER, EmbeddedPostgres, binaries
from orchestrator.devstack.stack import SERVER, Stack, worker_name
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.client import Target, connect
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, Field, field_on
from tests.faults.two_waits import furnish, happen, stand_at
from tests.soak import SOAK

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600 if SOAK else 300)]

#: Executions: a hundredth of the whole.
COUNT = 10_000 if SOAK else 100
#: Seconds that they have for a step, on a busy machine.
PATIENCE = 1200.0 if SOAK else 150.0
#: Seconds that restoring may take, and repairing.
RESTORE = 60.0


async def test_an_older_database_beside_a_newer_temporal_sends_nothing_twice(
    start_stack: StartStack, database: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await furnish(field)
        before = [f"p-{n}" for n in range(COUNT * 4 // 5)]
        ended, moved, asleep = before[::3], before[1::3], before[2::3]
        new = [f"new-{n}" for n in range(COUNT - len(before))]
        await tell(field, "signup", before)
        await stand_at(field, "go-1", len(before), within=PATIENCE)

        backup = tmp_path / "orchestrator.dump"
        await run("pg_dump", "--format=custom", f"--file={backup}", database)
        await since_the_backup(field, ended, moved, new)
        sent = sends_of(field)
        assert len(sent) == len(before) + 2 * len(ended) + len(moved) + len(new)

        await restore(stack, postgres, database, backup)
        # Whoever told us something since the backup tells it again: nobody answers for its having been taken.
        await tell(field, "signup", new)
        await tell(field, "go-1", [*ended, *moved])
        await tell(field, "go-2", ended)
        await is_blocked(field, new)
        await tell(field, "go-1", asleep)
        await stand_at_go_2(field, asleep)
        await tell(field, "go-2", [*moved, *asleep])
        await has_ended(field, [*moved, *asleep])
        await repair(stack)
        await has_ended(field, before)

        after = sends_of(field)
        assert set(after.values()) == {1}, "accepted twice"
        assert len(after) == 3 * len(before) + len(new)
        assert after.keys() >= sent.keys()
        assert Counter(receipt.subject_id for receipt in field.provider.accepted()) == Counter(
            {**dict.fromkeys(before, 3), **dict.fromkeys(new, 1)}
        )


async def repair(stack: Stack) -> None:
    """As `doctor --repair --apply` does, until nothing is left; what may be on its way is not waited for."""
    addresses = stack.addresses
    client = await connect(Target(address=addresses.temporal, namespace=addresses.temporal_namespace))
    pool = await open_pool(addresses.database_url, role=WORKER_ROLE, size=4, application_name="test-repairs")
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        repairs = Repairs(Transactions(pool), client, on_its_way=timedelta(0))

        async def nothing_is_left() -> bool:
            async for _ in repairs.carry_out():
                pass
            return not await repairs.plan()

        await eventually(nothing_is_left, within=RESTORE)
    finally:
        await pool.close()
    assert clock() - began <= RESTORE


async def tell(field: Field, event: str, subject_ids: list[str]) -> None:
    for at in range(0, len(subject_ids), 200):
        await happen(field, event, subject_ids[at : at + 200])


async def since_the_backup(field: Field, ended: list[str], moved: list[str], new: list[str]) -> None:
    """Some come to their end, some go on, some come in."""
    await tell(field, "signup", new)
    await tell(field, "go-1", [*ended, *moved])
    await stand_at(field, "go-2", len(ended) + len(moved), within=PATIENCE)
    await tell(field, "go-2", ended)
    await has_ended(field, ended)
    await has_come(field, new, "e.step_id = 'go-1' AND e.effect ->> 'kind' = 'sleep'")


async def restore(stack: Stack, postgres: EmbeddedPostgres, dsn: str, backup: Path) -> None:
    """What was there is gone, and what the backup has is back."""
    parts = [stack.part(SERVER), *(stack.part(worker_name(number)) for number in (1, 2))]
    await asyncio.gather(*(part.stop() for part in parts))
    name = urlsplit(dsn).path[1:]
    clock = asyncio.get_running_loop().time
    began = clock()
    admin = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
    try:
        owner = await admin.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0")
    finally:
        await admin.close()
    await run("pg_restore", "--no-owner", f"--dbname={dsn}", str(backup))
    await asyncio.gather(*(part.start() for part in parts))
    assert clock() - began <= RESTORE


async def has_ended(field: Field, subject_ids: list[str]) -> None:
    await has_come(field, subject_ids, "e.outcome IS NOT NULL")


async def stand_at_go_2(field: Field, subject_ids: list[str]) -> None:
    await has_come(field, subject_ids, "e.step_id = 'go-2' AND e.effect ->> 'kind' = 'sleep'")


async def has_come(field: Field, subject_ids: list[str], condition: str) -> None:
    """Until this holds of the execution of each of them."""
    conn = await field.owner()
    try:

        async def all_of_them() -> bool:
            found: int = await conn.fetchval(
                "SELECT count(*) FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)"
                f" WHERE s.subject_id = ANY ($1) AND {condition}",
                subject_ids,
            )
            await asyncio.sleep(0.1)
            return found == len(subject_ids)

        await eventually(all_of_them, within=PATIENCE)
    finally:
        await conn.close()


async def is_blocked(field: Field, subject_ids: list[str]) -> None:
    """Until Temporal has refused to start each of them again: their ids belong to those that it has."""
    conn = await field.owner()
    try:

        async def all_of_them() -> bool:
            taken: int = await conn.fetchval("SELECT count(*) FROM outbox_dead WHERE last_error = 'ID_TAKEN'")
            return taken == len(subject_ids)

        await eventually(all_of_them, within=PATIENCE)
    finally:
        await conn.close()


def sends_of(field: Field) -> Counter[str]:
    return Counter(receipt.key for receipt in field.provider.accepted())


async def run(program: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        binaries() / program, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
