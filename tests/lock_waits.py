"""Meetings of two transactions: one goes on when the other has come to wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.eventually import eventually

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def waits_for_a_lock(work: asyncio.Future[Any], conn: Connection[Record]) -> None:
    """Returns once somebody waits for a lock; fails if `work`, who is to come to one, ends without."""

    async def waits() -> bool:
        assert not work.done()
        return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))

    await eventually(waits, within=60)
