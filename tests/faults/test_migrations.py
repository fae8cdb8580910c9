"""Migrations beside readers that hold a table, and migrators that are killed: no long waits, and nothing half done."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from orchestrator.devstack.postgres import OWNER, SUPERUSER, EmbeddedPostgres, binaries
from orchestrator.storage.migrations import SchemaRefused, known_migrations, migrate
from tests.eventually import eventually

if TYPE_CHECKING:
    from asyncpg import Connection, Record

pytestmark = pytest.mark.faults

KNOWN = known_migrations()
#: The runner's `lock_timeout`, and half a second.
LONGEST_WAIT = timedelta(seconds=4.5)
#: Copies that are worked on at once. Most of the time they wait.
AT_ONCE = 8

#: Migrates up to a file of that number, which then does not come to its end.
KILLED = """
import asyncio, dataclasses, sys
from orchestrator.storage.migrations import known_migrations, migrate
*done, last = known_migrations()[:int(sys.argv[2])]
endless = dataclasses.replace(last, sql=last.sql + "; SELECT pg_sleep(120);")
asyncio.run(migrate(sys.argv[1], known=[*done, endless]))
"""

_TABLES = "SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
_SHUT_TO_READERS = """
SELECT relation::regclass::text AS name FROM pg_locks
 WHERE pid = pg_backend_pid() AND locktype = 'relation' AND mode = 'AccessExclusiveLock' AND relation = ANY ($1::oid[])
"""
_MIGRATOR = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'orchestrator-migrate'"
_IS_IN_THE_FILE = f"SELECT EXISTS (SELECT {_MIGRATOR} AND wait_event = 'PgSleep')"
_WAITS = f"SELECT EXISTS (SELECT {_MIGRATOR} AND wait_event_type = 'Lock')"


class Source:
    """A database that is migrated file by file, and copies of what it was before each."""

    def __init__(self, postgres: EmbeddedPostgres, admin: Connection[Record]) -> None:
        self._postgres = postgres
        self._admin = admin
        self._turn = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)
        self.name = f"source_{uuid.uuid4().hex}"

    @property
    def dsn(self) -> str:
        return self._postgres.dsn(self.name)

    async def begin(self, group: asyncio.TaskGroup, work: Callable[[str], Awaitable[None]]) -> None:
        """Copies the source as it is now, and starts `work` on the copy, which goes on beside."""
        await self._places.acquire()
        name = f"copy_{uuid.uuid4().hex}"
        await self._administer(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {self.name}")

        async def working() -> None:
            try:
                await work(self._postgres.dsn(name))
            finally:
                await self._administer(f"DROP DATABASE {name} WITH (FORCE)")
                self._places.release()

        group.create_task(working())

    async def _administer(self, statement: str) -> None:
        async with self._turn:
            await self._admin.execute(statement)


@pytest.fixture
async def source(postgres: EmbeddedPostgres) -> AsyncIterator[Source]:
    admin = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
    source = Source(postgres, admin)
    await admin.execute(f"CREATE DATABASE {source.name} OWNER {OWNER} TEMPLATE template0")
    yield source
    await admin.execute(f"DROP DATABASE {source.name} WITH (FORCE)")
    await admin.close()


async def test_a_migrator_that_is_killed_in_any_file_leaves_what_a_fresh_database_gets(
    source: Source, database: str
) -> None:
    fresh = await schema(database)
    gone_on: list[int] = []

    async def killed_in(dsn: str, number: int) -> None:
        migrator = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", KILLED, dsn, str(number))
        conn = await asyncpg.connect(dsn)
        try:
            await eventually(lambda: conn.fetchval(_IS_IN_THE_FILE), within=60)
        finally:
            await conn.close()
        migrator.send_signal(signal.SIGKILL)
        await migrator.wait()

        assert await migrate(dsn) == KNOWN[number - 1 :]
        assert await schema(dsn) == fresh
        gone_on.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(1, len(KNOWN) + 1):
            await source.begin(group, partial(killed_in, number=number))
            await migrate(source.dsn, known=KNOWN[:number])

    assert sorted(gone_on) == list(range(1, len(KNOWN) + 1))


async def test_beside_a_reader_a_migration_gives_up_before_anybody_has_waited_long(source: Source) -> None:
    longest: dict[str, timedelta] = {}

    async def beside_a_reader(dsn: str, number: int, table: str, shut: list[str]) -> None:
        reader = await asyncpg.connect(dsn)
        try:
            async with reader.transaction():
                await reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
                migrating = asyncio.create_task(migrate(dsn, known=KNOWN[:number]))
                await eventually(lambda: is_so(dsn, _WAITS), within=30)
                waits = await asyncio.gather(*(waited_for(dsn, other) for other in shut))
                with pytest.raises(SchemaRefused, match="waited 4 s for a lock"):
                    await migrating
        finally:
            await reader.close()
        longest[f"{KNOWN[number - 1].file_name} {table}"] = max(waits)
        assert await migrate(dsn, known=KNOWN[:number]) == (KNOWN[number - 1],)

    async with asyncio.TaskGroup() as group:
        for number in range(1, len(KNOWN) + 1):
            shut = await shut_to_readers(source.dsn, KNOWN[number - 1].sql)
            for table in shut:
                await source.begin(group, partial(beside_a_reader, number=number, table=table, shut=shut))
            await migrate(source.dsn, known=KNOWN[:number])

    assert len(longest) >= 20
    assert max(longest.values()) > timedelta(seconds=1), "who comes after a migration that waits, waits behind it"
    assert {place: wait for place, wait in longest.items() if wait > LONGEST_WAIT} == {}


async def shut_to_readers(dsn: str, sql: str) -> list[str]:
    """The tables that were there before and that nobody can read while the migration runs."""
    conn = await asyncpg.connect(dsn)
    try:
        tables = [row["oid"] for row in await conn.fetch(_TABLES)]
        trying = conn.transaction()
        await trying.start()
        await conn.execute(sql)
        found = [row["name"] for row in await conn.fetch(_SHUT_TO_READERS, tables)]
        await trying.rollback()
    finally:
        await conn.close()
    return found


async def waited_for(dsn: str, table: str) -> timedelta:
    """How long it takes to be let into a table, by the server's clock: however busy this process is."""
    conn = await asyncpg.connect(dsn)
    try:
        async with conn.transaction():
            waited: timedelta = await conn.fetchval(
                f"SELECT clock_timestamp() - now() FROM (SELECT count(*) FROM {table}) AS looked"
            )
    finally:
        await conn.close()
    return waited


async def is_so(dsn: str, question: str) -> bool:
    conn = await asyncpg.connect(dsn)
    try:
        return bool(await conn.fetchval(question))
    finally:
        await conn.close()


async def schema(dsn: str) -> str:
    """As pg_dump writes it, without the marks that differ from dump to dump."""
    dump = await asyncio.create_subprocess_exec(
        binaries() / "pg_dump", "--schema-only", "--no-owner", f"--dbname={dsn}", stdout=subprocess.PIPE
    )
    out, _ = await dump.communicate()
    assert dump.returncode == 0
    return "\n".join(line for line in out.decode().splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))
