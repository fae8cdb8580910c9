"""Work that one process does for all of them, in turn. Whoever dies at it holds it up until the lease is over."""

from __future__ import annotations

from datetime import timedelta

from asyncpg import Connection, Record

#: What there is to do so.
RECONCILIATION = "reconciliation"

_TAKE = """
INSERT INTO turns AS t (work, leased_until) VALUES ($1, clock_timestamp() + $2::interval)
ON CONFLICT (work) DO UPDATE SET leased_until = excluded.leased_until WHERE t.leased_until <= clock_timestamp()
RETURNING true
"""


async def take(conn: Connection[Record], work: str, lease: timedelta) -> bool:
    """Whether it is this process's turn, and nobody else's for so long."""
    return bool(await conn.fetchval(_TAKE, work, lease))


_END = "UPDATE turns SET leased_until = clock_timestamp() + $2::interval WHERE work = $1"


async def end(conn: Connection[Record], work: str, pause: timedelta) -> None:
    """The turn is over; the next one begins after the pause."""
    await conn.execute(_END, work, pause)
