"""The partitions of events."""

from __future__ import annotations

from datetime import date

from asyncpg import Connection, Record


async def ensure_month(conn: Connection[Record], first_day: date) -> None:
    """Make room for the events of that month. In a transaction of its own: others who need room wait for it."""
    await conn.execute("SELECT ensure_events_month($1)", first_day)
