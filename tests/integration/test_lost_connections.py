"""What a call meets whose connection breaks: each is known for what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asyncpg import InterfaceError, PostgresError
from grpc import StatusCode

from orchestrator.api.errors import failure_of
from orchestrator.storage.outages import is_outage

if TYPE_CHECKING:
    from asyncpg import Pool, Record


async def test_a_connection_that_is_lost_between_two_statements_is_an_outage(api_pool: Pool[Record]) -> None:
    conn = await api_pool.acquire()
    await conn.transaction().start()
    await conn.fetchval("SELECT 1")
    conn.terminate()

    with pytest.raises((InterfaceError, PostgresError)) as met:
        await conn.fetchval("SELECT 1")

    assert is_outage(met.value)
    assert failure_of(met.value, call_id="c", method="m").code is StatusCode.UNAVAILABLE
    await api_pool.release(conn)
