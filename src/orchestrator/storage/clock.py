"""The one clock of every decision: the database's."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from asyncpg import Connection, Record


async def now(conn: Connection[Record]) -> datetime:
    """The instant of this statement, in UTC. Ask once per transaction, after the lock if one is taken."""
    return cast("datetime", await conn.fetchval("SELECT clock_timestamp()"))
