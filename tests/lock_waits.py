"""Meetings of two transactions: one goes on when the other has come to wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.eventually import eventually

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def waits_for_a_lock(work: asyncio.Future[Any], conn: Connection[Record], *, many: int = 1) -> None:
    """Returns once so many wait for a lock; fails if `work`, the last to come to one, ends without."""

    async def waits() -> bool:
        assert not work.done()
        return bool(await conn.fetchval("SELECT count(*) >= $1 FROM pg_locks WHERE NOT granted", many))

    await eventually(waits, within=60)
