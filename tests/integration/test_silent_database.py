"""Postgres, or what lies before it, says nothing any more: who has no more time is not kept waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.application.transactions import Transactions
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from tests.faults.nemesis.proxy import Link, Proxy

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

pytestmark = pytest.mark.timeout(30)

#: Seconds that a caller has, and in which he is to be free.
PATIENCE, FREE = 0.3, 8.0


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    (directory,) = parse_qs(urlsplit(database).query)["host"]
    async with Proxy(Path(directory) / ".s.PGSQL.5432") as between:
        yield between


@pytest.fixture
async def pool(proxy: Proxy, database: str) -> AsyncIterator[Pool[Record]]:
    """Of one connection, through the proxy."""
    parts = urlsplit(database)
    dsn = f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"
    pool = await open_pool(dsn, role=WORKER_ROLE, size=1, application_name="test")
    yield pool
    proxy.set(Link())
    await pool.close()


async def test_who_reads_is_free_soon_after_his_time_and_the_next_one_is_served(
    proxy: Proxy, pool: Pool[Record]
) -> None:
    transactions = Transactions(pool)

    async def read() -> int:
        async with transactions.read(None) as conn:
            found: int = await conn.fetchval("SELECT 1")
            return found

    assert await read() == 1
    proxy.set(Link(silent=True))
    clock = asyncio.get_running_loop().time
    began = clock()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await read()
    assert clock() - began <= FREE
    proxy.set(Link())

    assert await read() == 1


async def test_who_writes_is_free_soon_after_his_time_and_has_written_nothing(
    proxy: Proxy, pool: Pool[Record], owner: Connection[Record]
) -> None:
    await owner.execute(f"CREATE TABLE marks (mark int); GRANT ALL ON marks TO {WORKER_ROLE}")
    transactions = Transactions(pool)

    async def write() -> None:
        async with transactions.write(None) as conn:
            await conn.execute("INSERT INTO marks VALUES (1)")
            proxy.set(Link(silent=True))
            await conn.execute("SELECT 1")

    clock = asyncio.get_running_loop().time
    began = clock()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await write()
    assert clock() - began <= FREE
    proxy.set(Link())

    async with transactions.read(None) as conn:
        assert await conn.fetchval("SELECT count(*) FROM marks") == 0
