"""Executions that are told to end. A mark is set under the subject's lock; whoever is marked is poked, and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.cancellation import Cancellation, Count, Filter
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import barriers, execution_pages
from orchestrator.storage.execution_pages import FIRST, Page, Place

# Columns of `e` that a filter asks about; who is told to end already is not told again.
_MEETS = """
       e.outcome IS NULL AND e.cancel_reason IS NULL
   AND ({version}::int IS NULL OR e.version = {version})
   AND ({step_ids}::text[] IS NULL OR e.step_id = ANY ({step_ids}))
   AND ({started_after}::timestamptz IS NULL OR e.started_at >= {started_after})
   AND ({started_before}::timestamptz IS NULL OR e.started_at < {started_before})
   AND (NOT {parked}::bool OR e.parked IS NOT NULL)
"""


def _meets(first: int) -> str:
    """The condition with its five parameters from this number on."""
    names = ("version", "step_ids", "started_after", "started_before", "parked")
    return _MEETS.format(**{name: f"${first + place}" for place, name in enumerate(names)})


def _arguments(wanted: Filter) -> tuple[Any, ...]:
    return (
        wanted.version,
        list(wanted.step_ids) or None,
        wanted.started_after,
        wanted.started_before,
        wanted.parked,
    )


_COUNT = f"""
SELECT e.step_id, count(*) AS total
  FROM executions AS e
 WHERE e.project_no = $1 AND e.journey_id = $2 AND {_meets(3)}
 GROUP BY e.step_id
 ORDER BY total DESC, e.step_id
"""

# One probe for each, as in storage/subjects.py.
_OF_SUBJECTS = f"""
SELECT e.bucket, e.subject_no, e.execution_id, e.workflow_id, e.step_id
  FROM unnest($8::smallint[], $9::bigint[]) AS w (bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT * FROM executions
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no AND journey_id = $2
       OFFSET 0) AS e
 WHERE {_meets(3)}
 ORDER BY e.bucket, e.subject_no, e.execution_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """An execution that meets a filter."""

    key: SubjectKey
    execution_id: UUID
    workflow_id: str
    step_id: str


async def count(conn: Connection[Record], project_no: int, journey_id: str, wanted: Filter) -> Count:
    """How many executions of the journey meet a filter that names no subjects."""
    rows = await conn.fetch(_COUNT, project_no, journey_id, *_arguments(wanted))
    return Count(total=sum(row["total"] for row in rows), by_step={row["step_id"]: row["total"] for row in rows})


async def of_subjects(
    conn: Connection[Record], project_no: int, journey_id: str, wanted: Filter, keys: Sequence[SubjectKey]
) -> list[Meant]:
    """Those executions of these subjects that meet the filter. The caller holds the subjects' rows, to mark them."""
    rows = await conn.fetch(
        _OF_SUBJECTS, project_no, journey_id, *_arguments(wanted),
        [key.bucket for key in keys], [key.subject_no for key in keys],
    )  # fmt: skip
    return [
        Meant(
            key=SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]),
            execution_id=row["execution_id"],
            workflow_id=row["workflow_id"],
            step_id=row["step_id"],
        )
        for row in rows
    ]


_MARK = """
UPDATE executions AS e
   SET cancel_reason = $5, cancel_asked_at = $6
  FROM unnest($2::smallint[], $3::bigint[], $4::uuid[]) AS w (bucket, subject_no, execution_id)
 WHERE e.project_no = $1 AND e.bucket = w.bucket AND e.subject_no = w.subject_no AND e.execution_id = w.execution_id
   AND e.outcome IS NULL AND e.cancel_reason IS NULL
"""


async def mark(conn: Connection[Record], meant: Sequence[Meant], reason: str, now: datetime) -> None:
    """Have these executions of one project end at their next look. The caller holds their subjects' rows."""
    if meant:
        await conn.execute(
            _MARK, meant[0].key.project_no, [one.key.bucket for one in meant], [one.key.subject_no for one in meant],
            [one.execution_id for one in meant], reason, now,
        )  # fmt: skip


_INSERT = """
INSERT INTO cancellations (project_no, cancellation_id, journey_id, filter, reason, matched, canceled, requested_at,
                           started_at, moved_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8, $9)
"""


async def insert(conn: Connection[Record], project_no: int, cancellation: Cancellation) -> None:
    """Ask for it: workers begin after the commit, unless it has an end already."""
    c = cancellation
    await conn.execute(
        _INSERT, project_no, c.id, c.journey_id, c.filter.to_document(), c.reason, c.matched, c.canceled,
        c.requested_at, c.ended_at,
    )  # fmt: skip


_FIND = """
SELECT cancellation_id, journey_id, filter, reason, matched, canceled, requested_at, ended_at
  FROM cancellations WHERE project_no = $1 AND cancellation_id = $2
"""


async def find(conn: Connection[Record], project_no: int, cancellation_id: str) -> Cancellation | None:
    row = await conn.fetchrow(_FIND, project_no, cancellation_id)
    return _cancellation(row) if row else None


_NEXT = f"""
SELECT project_no, cancellation_id, journey_id, filter, reason, matched, canceled, requested_at, ended_at,
       barrier, started_at, execution_id
  FROM cancellations
 WHERE ended_at IS NULL AND {barriers.PASSED}
 ORDER BY moved_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A cancelling that this transaction works on, and how far it has come: the start and id of an execution.

    `barrier` None: nobody has looked yet who may still be letting somebody in.
    """

    project_no: int
    cancellation: Cancellation
    barrier: int | None
    place: Place


async def take(conn: Connection[Record]) -> UnderWay | None:
    """The one whose last page is the longest ago; None when there is none, or somebody else is at it. One is left alone
    until all transactions from before it have ended: then everybody who is meant can be seen.
    """
    row = await conn.fetchrow(_NEXT)
    if row is None:
        return None
    place = row["started_at"], row["execution_id"]
    return UnderWay(project_no=row["project_no"], cancellation=_cancellation(row), barrier=row["barrier"], place=place)


_RAISE_BARRIER = f"""
UPDATE cancellations SET barrier = {barriers.RAISED}, moved_at = $3
 WHERE project_no = $1 AND cancellation_id = $2
"""


async def raise_barrier(conn: Connection[Record], under_way: UnderWay, now: datetime) -> None:
    """Note which transactions may have begun before it was asked for: this one has met it (storage/barriers.py).
    Whoever lets somebody in has taken the subject's lock, and so has a number, before the execution's start
    is read off the clock.
    """
    await conn.execute(_RAISE_BARRIER, under_way.project_no, under_way.cancellation.id, now)


_PAGE = execution_pages.statement(_meets(FIRST))


async def page(conn: Connection[Record], under_way: UnderWay, limit: int) -> Page:
    """The next executions of the journey, `limit` of them looked at: those that meet the filter are meant."""
    asked = under_way.cancellation
    return await execution_pages.page(
        conn, _PAGE, under_way.project_no, asked.journey_id, under_way.place, limit, *_arguments(asked.filter)
    )


_WHOSE = "SELECT bucket, subject_no FROM executions WHERE project_no = $1 AND execution_id = ANY ($2::uuid[])"


async def whose(conn: Connection[Record], project_no: int, execution_ids: Sequence[UUID]) -> set[SubjectKey]:
    """The subjects of these executions, as they are now: a merge gives some to another one."""
    return {_key(project_no, row) for row in await conn.fetch(_WHOSE, project_no, list(execution_ids))}


# Leased until now: no process has promised to deliver the pokes, so the next sweep does.
_MARK_AND_POKE = f"""
WITH marked AS (
    UPDATE executions AS e
       SET cancel_reason = $3, cancel_asked_at = $4
     WHERE e.project_no = $1 AND e.execution_id = ANY ($2::uuid[]) AND {_meets(5)}
    RETURNING e.project_no, e.bucket, e.subject_no, e.execution_id, e.workflow_id
), told AS (
    INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
    SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, $4, $4 FROM marked
)
SELECT count(*) FROM marked
"""


async def mark_and_poke(
    conn: Connection[Record], under_way: UnderWay, execution_ids: Sequence[UUID], now: datetime
) -> int:
    """Those of these executions that still meet the filter end soon; returns how many. Their subjects are held."""
    if not execution_ids:
        return 0
    asked = under_way.cancellation
    marked: int = await conn.fetchval(
        _MARK_AND_POKE, under_way.project_no, list(execution_ids), asked.reason, now, *_arguments(asked.filter)
    )
    return marked


_GO_ON = """
UPDATE cancellations
   SET canceled = canceled + $3, started_at = coalesce($4, started_at), execution_id = coalesce($5, execution_id),
       moved_at = $6::timestamptz, ended_at = CASE WHEN $7::bool THEN $6::timestamptz END
 WHERE project_no = $1 AND cancellation_id = $2
"""


async def go_on(conn: Connection[Record], under_way: UnderWay, marked: int, place: Place | None, now: datetime) -> None:
    """Note how far it has come; without a `place`, that it has come to its end."""
    started_at, execution_id = place or (None, None)
    await conn.execute(
        _GO_ON, under_way.project_no, under_way.cancellation.id, marked, started_at, execution_id,
        now, place is None,
    )  # fmt: skip


def _cancellation(row: Record) -> Cancellation:
    return Cancellation(
        id=row["cancellation_id"],
        journey_id=row["journey_id"],
        filter=Filter.from_document(row["filter"]),
        reason=row["reason"],
        matched=row["matched"],
        canceled=row["canceled"],
        requested_at=row["requested_at"],
        ended_at=row["ended_at"],
    )


def _key(project_no: int, row: Record) -> SubjectKey:
    return SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"])
