"""Who looks for work looks again, whatever comes of one look."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest
from temporalio.service import RPCError, RPCStatusCode

from workers.looks import keep_looking
from workers.stopping import Stopping

AWAY = [
    asyncpg.TooManyConnectionsError("x"),
    ConnectionRefusedError("x"),
    RPCError("x", RPCStatusCode.UNAVAILABLE, b""),
]
OURS = [KeyError("x"), asyncpg.UndefinedTableError("x"), RPCError("x", RPCStatusCode.INVALID_ARGUMENT, b"")]


@pytest.mark.parametrize("error", [*AWAY, *OURS], ids=lambda error: f"{type(error).__name__}")
async def test_a_look_that_fails_is_told_and_another_one_made(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    stopping = Stopping()
    looks: list[Exception | None] = [error, None, error, None]

    async def look() -> float:
        came = looks.pop(0)
        if not looks:
            stopping.set()
        if came is not None:
            raise came
        return 0.0

    async with asyncio.timeout(10):
        await keep_looking(look, stopping, failed="it waits", again=0.0)

    levels = {logging.WARNING} if error in AWAY else {logging.ERROR}
    assert [record.getMessage() for record in caplog.records] == ["it waits"] * 2
    assert {record.levelno for record in caplog.records} == levels
    assert all(bool(record.exc_info) == (error in OURS) for record in caplog.records)


async def test_who_is_told_to_stop_looks_no_more() -> None:
    stopping = Stopping()
    looked = asyncio.Event()

    async def look() -> float:
        looked.set()
        return 3600.0

    looking = asyncio.create_task(keep_looking(look, stopping, failed="it waits", again=3600.0))
    await looked.wait()
    looked.clear()
    stopping.set()

    await asyncio.wait_for(looking, 10)
    assert not looked.is_set()
