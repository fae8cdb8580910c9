"""What a call meets whose connection breaks, or is gone: each is known for what it is. And what only looks like it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from asyncpg import InterfaceError, InternalClientError, PostgresError
from grpc import StatusCode

from orchestrator.api.errors import failure_of
from orchestrator.storage.outages import is_outage
from orchestrator.storage.pool import API_ROLE, open_pool

if TYPE_CHECKING:
    from asyncpg import Pool, Record
    from asyncpg.pool import PoolConnectionProxy

Meet = Callable[["Pool[Record]"], Awaitable[object]]


@asynccontextmanager
async def lost(pool: Pool[Record]) -> AsyncIterator[PoolConnectionProxy[Record]]:
    """A connection that breaks between two statements."""
    conn = await pool.acquire()
    await conn.fetchval("SELECT 1")
    conn.terminate()
    yield conn
    await pool.release(conn)


async def between_two_statements(pool: Pool[Record]) -> None:
    async with lost(pool) as conn:
        await conn.fetchval("SELECT 1")


async def at_the_begin_of_a_transaction(pool: Pool[Record]) -> None:
    async with lost(pool) as conn, conn.transaction():
        pytest.fail("it began")


async def at_its_end(pool: Pool[Record]) -> None:
    conn = await pool.acquire()
    async with conn.transaction():
        conn.terminate()


async def by_the_word_of_an_administrator(pool: Pool[Record]) -> None:
    await pool.execute("SET ROLE NONE; SELECT pg_terminate_backend(pg_backend_pid())")


async def of_one_that_was_closed(pool: Pool[Record]) -> None:
    async with pool.acquire() as conn:
        await conn.close()
        await conn.fetchval("SELECT 1")


async def of_a_closed_pool(pool: Pool[Record]) -> None:
    await pool.close()
    await pool.fetchval("SELECT 1")


async def of_a_pool_that_is_closing(pool: Pool[Record]) -> None:
    conn = await pool.acquire()
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)  # it has begun, and waits for this one
    try:
        await pool.fetchval("SELECT 1")
    finally:
        await pool.release(conn)
        await closing


@pytest.mark.parametrize(
    "meet",
    [
        between_two_statements,
        at_the_begin_of_a_transaction,
        at_its_end,
        by_the_word_of_an_administrator,
        of_one_that_was_closed,
        of_a_closed_pool,
        of_a_pool_that_is_closing,
    ],
)
async def test_a_connection_that_is_lost_or_closed_is_an_outage(database: str, meet: Meet) -> None:
    pool = await open_pool(database, role=API_ROLE, size=2, application_name="lost")

    with pytest.raises((InterfaceError, InternalClientError, PostgresError)) as met:
        await meet(pool)

    assert is_outage(met.value)
    assert failure_of(met.value, call_id="c", method="m").code is StatusCode.UNAVAILABLE
    pool.terminate()


async def two_at_once_on_one(pool: Pool[Record]) -> None:
    async with pool.acquire() as conn:
        await asyncio.gather(conn.fetchval("SELECT 1"), conn.fetchval("SELECT 1"))


async def too_few_arguments(pool: Pool[Record]) -> None:
    await pool.fetchval("SELECT $1::int")


async def an_argument_that_speaks_of_closing(pool: Pool[Record]) -> None:
    await pool.fetchval("SELECT $1::int", "connection is closed")


async def a_cursor_outside_of_a_transaction(pool: Pool[Record]) -> None:
    async with pool.acquire() as conn:
        async for _ in conn.cursor("SELECT 1"):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    "meet",
    [
        two_at_once_on_one,
        too_few_arguments,
        an_argument_that_speaks_of_closing,
        a_cursor_outside_of_a_transaction,
    ],
)
async def test_what_we_do_wrong_ourselves_is_none_and_is_not_tried_again(api_pool: Pool[Record], meet: Meet) -> None:
    with pytest.raises((InterfaceError, PostgresError)) as met:
        await meet(api_pool)

    assert not is_outage(met.value)
    assert failure_of(met.value, call_id="c", method="m").code is StatusCode.INTERNAL
