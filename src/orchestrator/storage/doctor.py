"""Asking the database whether all is well. Each question is a short statement of its own: no snapshot is held long."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.storage.doctor_check import Check

#: Told of each check.
EXAMPLES = 5

_BUCKETS = 256
_CHUNK = 16
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many things are wrong, and some of them."""

    total: int
    examples: tuple[str, ...]

    def __add__(self, other: Count) -> Count:
        return Count(total=self.total + other.total, examples=(*self.examples, *other.examples)[:EXAMPLES])


NONE = Count(total=0, examples=())

# `$1` stands here too, for the checks that do not look at the clock.
_COUNT = """
WITH wrong AS ({sql})
SELECT count(*) AS total, coalesce((array_agg(example))[:{examples}], '{{}}') AS examples, $1::timestamptz AS asked_at
  FROM wrong
"""


async def check(conn: Connection[Record], check: Check, now: datetime) -> Count:
    """What the check finds, in all projects."""
    statement = _COUNT.format(sql=check.sql, examples=EXAMPLES)
    if not check.divided:
        return await _count(conn, statement, now)
    found = NONE
    for row in await conn.fetch("SELECT project_no FROM projects ORDER BY project_no"):
        for first in range(0, _BUCKETS, _CHUNK):
            # Of a sample's rows not the same every time.
            start = (first + random.randrange(_CHUNK),) if check.sampled else ()
            found += await _count(conn, statement, now, row["project_no"], first, first + _CHUNK, *start)
    return found


async def _count(conn: Connection[Record], statement: str, *arguments: object) -> Count:
    row = await conn.fetchrow(statement, *arguments)
    assert row is not None, "an aggregate has a row"
    return Count(total=row["total"], examples=tuple(row["examples"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An execution that runs, by the database. `overdue`: it should have gone on by then."""

    project_no: int
    bucket: int
    subject_no: int
    execution_id: UUID
    workflow_id: str
    overdue: bool

    @property
    def key(self) -> tuple[int, int, int, UUID]:
        return self.project_no, self.bucket, self.subject_no, self.execution_id


_OPEN = """
SELECT e.project_no, e.bucket, e.subject_no, e.execution_id, e.workflow_id,
       coalesce(least(e.wakes_at, e.cancel_asked_at) < $1, false) AS overdue
  FROM executions AS e
 WHERE e.outcome IS NULL AND e.started_at < $1
   AND (e.project_no, e.bucket, e.subject_no, e.execution_id) > ($2, $3, $4, $5)
   AND NOT EXISTS (SELECT FROM outbox AS o WHERE o.execution_id = e.execution_id AND o.kind = 'start')
   AND NOT EXISTS (SELECT FROM outbox_dead AS o WHERE o.execution_id = e.execution_id AND o.kind = 'start')
 ORDER BY e.project_no, e.bucket, e.subject_no, e.execution_id
 LIMIT $6
"""


async def running(conn: Connection[Record], started_before: datetime) -> AsyncIterator[Sequence[Open]]:
    """Executions that run and that Temporal has been told of, page by page."""
    place: tuple[int, int, int, UUID] = (0, -1, -1, UUID(int=0))
    while True:
        rows = await conn.fetch(_OPEN, started_before, *place, _PAGE)
        page = [Open(**row) for row in rows]
        if page:
            yield page
        if len(page) < _PAGE:
            return
        place = page[-1].key


_STILL_OPEN = """
SELECT execution_id
  FROM executions AS e
  JOIN unnest($1::int[], $2::smallint[], $3::bigint[], $4::uuid[])
       AS asked (project_no, bucket, subject_no, execution_id)
 USING (project_no, bucket, subject_no, execution_id)
 WHERE e.outcome IS NULL OR e.ended_at > $5
"""


async def still_open(
    conn: Connection[Record],
    executions: Sequence[tuple[int, int, int, UUID]],
    *,
    or_ended_after: datetime | None = None,
) -> set[UUID]:
    """Those of (project_no, bucket, subject_no, execution_id) that run, or have ended but lately."""
    if not executions:
        return set()
    rows = await conn.fetch(_STILL_OPEN, *map(list, zip(*executions, strict=True)), or_ended_after)
    return {row["execution_id"] for row in rows}


async def projects(conn: Connection[Record]) -> list[int]:
    """The numbers of all projects."""
    return [row["project_no"] for row in await conn.fetch("SELECT project_no FROM projects ORDER BY project_no")]
