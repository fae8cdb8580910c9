"""The one row that makes an instance itself."""

from __future__ import annotations

from typing import cast

from asyncpg import Connection, Record


async def read_secret(conn: Connection[Record]) -> bytes:
    """The secret behind key digests and subject refs; it never changes."""
    return cast("bytes", await conn.fetchval("SELECT secret FROM instance"))
