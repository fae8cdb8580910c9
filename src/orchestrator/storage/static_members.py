"""Who is in a static segment. Those who change that hold the subjects' rows, and the segment (segments.hold).

Whoever comes or goes leaves a transition, as where there are rules. Members of a segment that was deleted stay for a
while, until the upkeep has removed them: its number is never another's, and who reads them joins `segments`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.segment import Member

_ADD = """
WITH added AS (
    INSERT INTO static_members (project_no, bucket, subject_no, segment_no, added_at)
    SELECT $1, w.bucket, w.subject_no, $4, $5 FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
    ON CONFLICT ON CONSTRAINT static_members_pkey DO NOTHING
    RETURNING bucket, subject_no
), size AS (
    INSERT INTO segment_sizes (project_no, segment_no, delta)
    SELECT $1, $4, count(*) FROM added HAVING count(*) > 0
)
INSERT INTO segment_transitions (project_no, bucket, subject_no, segment_no, entered, cause, as_of)
SELECT $1, bucket, subject_no, $4, true, 'data', $5 FROM added ORDER BY bucket, subject_no
RETURNING bucket, subject_no, transition_no
"""


async def add(
    conn: Connection[Record], project_no: int, segment_no: int, keys: Sequence[SubjectKey], now: datetime
) -> dict[SubjectKey, int]:
    """Put these subjects into the segment; returns those who were not in it, with the numbers of their transitions."""
    rows = await conn.fetch(_ADD, project_no, [k.bucket for k in keys], [k.subject_no for k in keys], segment_no, now)
    return {SubjectKey(project_no=project_no, bucket=row[0], subject_no=row[1]): row[2] for row in rows}


_REMOVE = """
WITH removed AS (
    DELETE FROM static_members AS m USING unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
     WHERE m.project_no = $1 AND m.bucket = w.bucket AND m.subject_no = w.subject_no AND m.segment_no = $4
    RETURNING m.bucket, m.subject_no
), size AS (
    INSERT INTO segment_sizes (project_no, segment_no, delta)
    SELECT $1, $4, -count(*) FROM removed HAVING count(*) > 0
)
INSERT INTO segment_transitions (project_no, bucket, subject_no, segment_no, entered, cause, as_of)
SELECT $1, bucket, subject_no, $4, false, 'data', $5 FROM removed ORDER BY bucket, subject_no
RETURNING bucket, subject_no, transition_no
"""


async def remove(
    conn: Connection[Record], project_no: int, segment_no: int, keys: Sequence[SubjectKey], now: datetime
) -> dict[SubjectKey, int]:
    """Take these subjects out of the segment; returns those who were in it, with the numbers of their transitions."""
    rows = await conn.fetch(
        _REMOVE, project_no, [k.bucket for k in keys], [k.subject_no for k in keys], segment_no, now
    )
    return {SubjectKey(project_no=project_no, bucket=row[0], subject_no=row[1]): row[2] for row in rows}


_FORGET_GONE = """
DELETE FROM static_members WHERE (project_no, bucket, subject_no, segment_no) IN (
    SELECT project_no, bucket, subject_no, segment_no FROM static_members
     WHERE project_no = $1 AND segment_no = ANY ($2::int[]) LIMIT $3)
"""


async def forget_gone(conn: Connection[Record], project_no: int, segment_nos: Collection[int], limit: int) -> int:
    """Delete up to `limit` members of these segments, which were deleted; returns how many. Tells nobody: who asks
    about such a segment is told that it does not exist.
    """
    tag = await conn.execute(_FORGET_GONE, project_no, list(segment_nos), limit)
    return int(tag.rsplit(" ", 1)[1])


_OF = "SELECT segment_no FROM static_members WHERE project_no = $1 AND bucket = $2 AND subject_no = $3"


async def of(conn: Connection[Record], key: SubjectKey) -> set[int]:
    """The lists that the subject is on."""
    rows = await conn.fetch(_OF, key.project_no, key.bucket, key.subject_no)
    return {row["segment_no"] for row in rows}


_PAGE = """
SELECT m.bucket, m.subject_no, s.subject_id, m.added_at AS since
  FROM static_members AS m
  JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE m.project_no = $1 AND m.segment_no = $2 AND m.subject_no > $3
 ORDER BY m.subject_no
 LIMIT $4
"""


async def page(
    conn: Connection[Record], project_no: int, segment_no: int, *, after: tuple[int, int], limit: int
) -> list[Member]:
    """At most `limit` members behind a place, by number: in the order in which the subjects came to be."""
    rows = await conn.fetch(_PAGE, project_no, segment_no, after[1], limit)
    return [
        Member(place=(row["bucket"], row["subject_no"]), subject_id=row["subject_id"], since=row["since"])
        for row in rows
    ]
