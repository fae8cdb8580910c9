"""Kinds of events that nobody asks about any more: counted no longer, and forgotten subject by subject.

Callers own the connection and the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.storage import subjects

_HOLD = "SELECT FROM derived_events WHERE project_no = $1 AND name_no = ANY ($2::int[]) ORDER BY name_no FOR UPDATE"

_GIVE_UP = """
WITH given_up AS (
    DELETE FROM derived_events WHERE project_no = $1 AND name_no = ANY ($2::int[]) RETURNING project_no, name_no
)
INSERT INTO given_up_kinds (project_no, name_no, given_up_at) SELECT project_no, name_no, $3 FROM given_up
"""


async def give_up(conn: Connection[Record], project_no: int, name_nos: Sequence[int], now: datetime) -> None:
    """Count these no longer; what has been counted is to be removed. Ingest waits until this transaction ends.

    The caller holds the project's definitions, in which nothing asks about them. Who asks again has them counted anew,
    under another number.
    """
    # Whoever counts the past of one holds its row, and may wait for subjects: he comes first.
    await conn.execute(_HOLD, project_no, name_nos)
    # Whoever is taking events in that are of these kinds has committed now, and nobody does any more.
    await subjects.hold_off_ingest(conn, project_no)
    await conn.execute(_GIVE_UP, project_no, name_nos, now)


_GIVEN_UP = """
SELECT project_no, array_agg(name_no ORDER BY name_no) AS name_nos FROM given_up_kinds GROUP BY project_no ORDER BY 1
"""


async def waiting(conn: Connection[Record]) -> dict[int, list[int]]:
    """By project: the numbers of kinds that were given up and of which something may be left."""
    return {row["project_no"]: row["name_nos"] for row in await conn.fetch(_GIVEN_UP)}


# One statement: counts and copies of a subject go together.
_FORGET = """
WITH those AS MATERIALIZED (
    SELECT bucket, subject_no, name_no FROM subject_event_state
     WHERE project_no = $1 AND bucket = $2 AND name_no = ANY ($3::int[])
     LIMIT $4
), copies AS (
    DELETE FROM events AS e USING those AS t
     WHERE e.project_no = $1 AND e.bucket = t.bucket AND e.subject_no = t.subject_no AND e.name_no = t.name_no
), days AS (
    DELETE FROM subject_event_days AS d USING those AS t
     WHERE d.project_no = $1 AND d.bucket = t.bucket AND d.subject_no = t.subject_no AND d.name_no = t.name_no
)
DELETE FROM subject_event_state AS s USING those AS t
 WHERE s.project_no = $1 AND s.bucket = t.bucket AND s.subject_no = t.subject_no AND s.name_no = t.name_no
"""


async def forget(conn: Connection[Record], project_no: int, bucket: int, name_nos: Sequence[int], limit: int) -> int:
    """Remove what was counted as of these kinds of up to `limit` subjects of the bucket, once for each; how many."""
    return int((await conn.execute(_FORGET, project_no, bucket, name_nos, limit)).rsplit(" ", 1)[1])


_FORGOTTEN = "DELETE FROM given_up_kinds WHERE project_no = $1 AND name_no = ANY ($2::int[])"


async def done(conn: Connection[Record], project_no: int, name_nos: Sequence[int]) -> None:
    """Nothing is left of these."""
    await conn.execute(_FORGOTTEN, project_no, name_nos)
