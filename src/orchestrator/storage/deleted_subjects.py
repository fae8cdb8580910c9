"""Subjects that were deleted, and of which rows are left."""

from __future__ import annotations

from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

_ADD = "INSERT INTO deleted_subjects (project_no, bucket, subject_no, deleted_at) VALUES ($1, $2, $3, $4)"


async def add(conn: Connection[Record], key: SubjectKey, now: datetime) -> None:
    """Have a worker remove the rest after the commit."""
    await conn.execute(_ADD, *key, now)


_TAKE = """
SELECT project_no, bucket, subject_no FROM deleted_subjects ORDER BY deleted_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""


async def take(conn: Connection[Record]) -> SubjectKey | None:
    """The oldest that nobody else is at, held until the transaction ends."""
    row = await conn.fetchrow(_TAKE)
    return SubjectKey(*row) if row else None


_DONE = "DELETE FROM deleted_subjects WHERE project_no = $1 AND bucket = $2 AND subject_no = $3"


async def done(conn: Connection[Record], key: SubjectKey) -> None:
    """Nothing is left of it."""
    await conn.execute(_DONE, *key)
