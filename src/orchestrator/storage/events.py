"""Events: their partitions, and the memory of their ids."""

from __future__ import annotations

from datetime import date, datetime

from asyncpg import Connection, Record

_FORGET = """
DELETE FROM event_ids
WHERE (project_no, event_hash) IN (SELECT project_no, event_hash FROM event_ids WHERE received_at < $1 LIMIT $2)
"""


async def ensure_month(conn: Connection[Record], first_day: date) -> None:
    """Make room for the events of that month. In a transaction of its own: others who need room wait for it."""
    await conn.execute("SELECT ensure_events_month($1)", first_day)


async def forget_ids(conn: Connection[Record], *, before: datetime, limit: int) -> int:
    """Forget up to `limit` event ids received before then; returns how many were forgotten. For the workers' role."""
    done = await conn.execute(_FORGET, before, limit)
    return int(done.rpartition(" ")[2])
