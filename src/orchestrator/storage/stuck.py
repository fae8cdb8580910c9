"""Executions that should have gone on and have not. Nothing is kept for finding them: those that run are looked at,
some at a time, so that nobody who goes on pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from asyncpg import Connection, Record

#: Executions looked at in one statement.
SCAN = 5000

#: Where somebody stands in the order of journey, bucket, subject and execution.
Place = tuple[str, int, int, UUID]

START: Place = ("", -1, -1, UUID(int=0))

#: What an execution should have done.
WAKE, SEND_NOT_BEGUN, SEND_NOT_SETTLED, CANCEL = "wake", "send_not_begun", "send_not_settled", "cancel"
CAUSES = (WAKE, SEND_NOT_BEGUN, SEND_NOT_SETTLED, CANCEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How late something may be: a waking or an ending, and a send, which its provider may delay."""

    moment: timedelta = timedelta(minutes=1)
    send: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    execution_id: UUID
    place: Place
    cause: str
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`end`: where the looking ended; None when there was nobody left."""

    stuck: Sequence[Stuck]
    end: Place | None


_PAGE = f"""
WITH looked AS MATERIALIZED (
    SELECT project_no, bucket, subject_no, execution_id, journey_id, seq, wakes_at, parked, cancel_asked_at,
           greatest(since, run_since) AS since,
           effect ->> 'kind' AS kind,
           row_number() OVER (ORDER BY journey_id, bucket, subject_no, execution_id) AS place
      FROM executions
     WHERE project_no = $1 AND outcome IS NULL AND {{of_journey}}
       AND (journey_id, bucket, subject_no, execution_id) > ($2, $3::smallint, $4::bigint, $5::uuid)
     ORDER BY journey_id, bucket, subject_no, execution_id
     LIMIT $6
), judged AS (
    SELECT l.journey_id, l.bucket, l.subject_no, l.execution_id, l.place, c.cause, c.due_at
      FROM looked AS l
      LEFT JOIN LATERAL (
            SELECT state, reserved_at, settled_at FROM sends
             WHERE l.kind = 'run' AND l.parked IS NULL
               AND project_no = l.project_no AND bucket = l.bucket AND subject_no = l.subject_no
               AND execution_id = l.execution_id AND seq = l.seq
            UNION ALL
            -- For how long a webhook is called, its step says.
            SELECT state, reserved_at, settled_at FROM webhook_calls
             WHERE l.kind = 'run' AND l.parked IS NULL
               AND project_no = l.project_no AND bucket = l.bucket AND subject_no = l.subject_no
               AND execution_id = l.execution_id AND seq = l.seq
            OFFSET 0) AS s ON true
      LEFT JOIN LATERAL (
            SELECT '{CANCEL}' AS cause, l.cancel_asked_at AS due_at WHERE l.cancel_asked_at < $7
            UNION ALL
            SELECT '{WAKE}', l.wakes_at WHERE l.wakes_at < $7
            UNION ALL
            SELECT '{SEND_NOT_BEGUN}', l.since
             WHERE l.kind = 'run' AND l.parked IS NULL AND s.state IS NULL AND l.since < $8
            UNION ALL
            SELECT '{SEND_NOT_SETTLED}', s.reserved_at WHERE s.state = 'dispatching' AND s.reserved_at < $8
            UNION ALL
            SELECT '{WAKE}', s.settled_at WHERE s.settled_at < $7
             LIMIT 1) AS c ON true
)
SELECT * FROM judged WHERE cause IS NOT NULL OR place = $6 ORDER BY place
"""

_OF_PROJECT = _PAGE.format(of_journey="$9::text IS NULL")
_OF_JOURNEY = _PAGE.format(of_journey="journey_id = $9")


async def page(
    conn: Connection[Record],
    project_no: int,
    *,
    journey_id: str | None,
    after: Place,
    bounds: Bounds,
    now: datetime,
    scan: int = SCAN,
) -> Page:
    """Of the next running executions of a project, or of one of its journeys, those that are late."""
    rows = await conn.fetch(
        _OF_PROJECT if journey_id is None else _OF_JOURNEY,
        project_no, *after, scan, now - bounds.moment, now - bounds.send, journey_id,
    )  # fmt: skip
    stuck = [
        Stuck(execution_id=row["execution_id"], place=_place(row), cause=row["cause"], due_at=row["due_at"])
        for row in rows
        if row["cause"] is not None
    ]
    return Page(stuck=stuck, end=_place(rows[-1]) if rows and rows[-1]["place"] == scan else None)


def _place(row: Record) -> Place:
    return row["journey_id"], row["bucket"], row["subject_no"], row["execution_id"]


_PROJECTS = "SELECT project_no FROM projects ORDER BY project_no"

_TAKE_TURN = "UPDATE stuck_counts SET leased_until = $2 WHERE leased_until <= $1 RETURNING true"

_NOTE = "UPDATE stuck_counts SET counts = $1, leased_until = $2"


async def projects(conn: Connection[Record]) -> list[int]:
    """All there are, for the workers' role."""
    return [row["project_no"] for row in await conn.fetch(_PROJECTS)]


async def take_turn(conn: Connection[Record], now: datetime, until: datetime) -> bool:
    """Whether it is this process's turn to count, and nobody else's until then."""
    return bool(await conn.fetchval(_TAKE_TURN, now, until))


async def note(conn: Connection[Record], counts: Mapping[str, int], until: datetime) -> None:
    """What was counted, by cause; the next turn is at `until`."""
    await conn.execute(_NOTE, dict(counts), until)


async def noted(conn: Connection[Record]) -> dict[str, int]:
    """What was counted last, by cause."""
    counts: dict[str, int] = await conn.fetchval("SELECT counts FROM stuck_counts")
    return counts
