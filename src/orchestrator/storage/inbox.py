"""The consumer's side of the inbox: claim subjects, take their entries, give back what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: An entry that made its consumer fail this often is set aside.
MAX_ATTEMPTS = 10


class Entry(NamedTuple):
    """One inbox row. The first three arrays are parallel, in order of arrival, and empty unless `kind` is events.

    `transition_nos` were written with the row, by somebody else than its consumer. `hops`: domain/entry.py, Trigger.
    `received_at`: for events, theirs. `trace`: `orchestrator.traces`.
    """

    inbox_no: int
    key: SubjectKey
    kind: str
    name_nos: tuple[int, ...]
    event_nos: tuple[int, ...]
    occurred_ats: tuple[datetime, ...]
    transition_nos: tuple[int, ...]
    received_at: datetime
    hops: int = 0
    trace: str | None = None


# Oldest entries first; consumers that look at the same rows part ways at the lock. Which entries stands in the text:
# only so the planner knows that an index holds just these.
_OLDEST = """
SELECT project_no, bucket, subject_no
  FROM (SELECT project_no, bucket, subject_no, inbox_no FROM inbox
         WHERE {which} ORDER BY inbox_no LIMIT $1) AS oldest
 GROUP BY project_no, bucket, subject_no
 ORDER BY min(inbox_no)
"""
_WAITING = _OLDEST.format(which="attempts = 0")
_FAILING = _OLDEST.format(which="attempts > 0")

# One probe for each subject, in the order given: a join may be planned as a scan of the whole project.
_LOCK = """
SELECT s.project_no, s.bucket, s.subject_no
  FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS w (project_no, bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT project_no, bucket, subject_no FROM subjects
        WHERE project_no = w.project_no AND bucket = w.bucket AND subject_no = w.subject_no
          FOR NO KEY UPDATE SKIP LOCKED) AS s
 LIMIT $4
"""


async def waiting(conn: Connection[Record], look: int) -> list[SubjectKey]:
    """The subjects of the `look` oldest entries that never failed, those who have waited longest first."""
    return [SubjectKey(*row) for row in await conn.fetch(_WAITING, look)]


async def failing(conn: Connection[Record], look: int) -> list[SubjectKey]:
    """The subjects of the `look` oldest entries that failed before, those who have waited longest first."""
    return [SubjectKey(*row) for row in await conn.fetch(_FAILING, look)]


# Each half by the index that begins with the subject. Held entries are those of storage/held_entries.py.
_PENDING = """
SELECT project_no, bucket, subject_no
  FROM ((SELECT DISTINCT project_no, bucket, subject_no FROM inbox
          WHERE project_no = $1 AND (bucket, subject_no) > ($2, $3) AND attempts = 0
          ORDER BY bucket, subject_no LIMIT $5)
        UNION
        (SELECT DISTINCT project_no, bucket, subject_no FROM held_entries
          WHERE project_no = $1 AND (bucket, subject_no) > ($2, $3) AND look_at <= $4
          ORDER BY bucket, subject_no LIMIT $5)) AS found
 ORDER BY bucket, subject_no
 LIMIT $5
"""

_PENDING_OF = """
SELECT w.project_no, w.bucket, w.subject_no
  FROM (SELECT $1::int AS project_no, bucket, subject_no
          FROM unnest($6::smallint[], $7::bigint[]) AS named (bucket, subject_no)) AS w
 WHERE (w.bucket, w.subject_no) > ($2, $3)
   AND (EXISTS (SELECT FROM inbox AS i
                 WHERE i.project_no = w.project_no AND i.bucket = w.bucket AND i.subject_no = w.subject_no
                   AND i.attempts = 0)
        OR EXISTS (SELECT FROM held_entries AS h
                    WHERE h.project_no = w.project_no AND h.bucket = w.bucket AND h.subject_no = w.subject_no
                      AND h.look_at <= $4))
 ORDER BY w.bucket, w.subject_no
 LIMIT $5
"""


async def pending(
    conn: Connection[Record],
    project_no: int,
    after: SubjectKey | None,
    *,
    of: Sequence[SubjectKey] | None,
    now: datetime,
    limit: int,
) -> list[SubjectKey]:
    """The first subjects of a project, in lock order and behind `after`, with entries that never failed, or held ones
    that are to be looked at by now; of these subjects, or of all.
    """
    bucket, subject_no = (-1, 0) if after is None else (after.bucket, after.subject_no)
    if of is None:
        rows = await conn.fetch(_PENDING, project_no, bucket, subject_no, now, limit)
    else:
        rows = await conn.fetch(
            _PENDING_OF, project_no, bucket, subject_no, now, limit, [k.bucket for k in of], [k.subject_no for k in of]
        )
    return [SubjectKey(*row) for row in rows]


# Any number, the same in all processes.
_TRY_TURN = "SELECT pg_try_advisory_xact_lock(1_802_775_311)"


async def take_turn(conn: Connection[Record]) -> bool:
    """Whether this transaction may try failed entries again: until it ends, nobody else may."""
    free: bool = await conn.fetchval(_TRY_TURN)
    return free


async def claim(conn: Connection[Record], keys: Sequence[SubjectKey], limit: int) -> list[SubjectKey]:
    """Take the rows of the first `limit` that nobody else is working on, in a statement of its own."""
    rows = await conn.fetch(
        _LOCK, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys], limit
    )
    return [SubjectKey(*row) for row in rows]


_TAKE = """
WITH taken AS (
    DELETE FROM inbox AS i
     USING unnest($1::int[], $2::smallint[], $3::bigint[]) AS w (project_no, bucket, subject_no)
     WHERE i.project_no = w.project_no AND i.bucket = w.bucket AND i.subject_no = w.subject_no
    RETURNING i.inbox_no, i.project_no, i.bucket, i.subject_no, i.kind, i.name_nos, i.event_nos, i.occurred_ats,
              i.transition_nos, i.received_at, i.hops, i.trace
)
SELECT * FROM taken ORDER BY inbox_no
"""


async def take(conn: Connection[Record], keys: Sequence[SubjectKey]) -> list[Entry]:
    """All entries of these subjects, in order; they are gone when the transaction commits."""
    rows = await conn.fetch(_TAKE, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys])
    return [
        Entry(
            inbox_no=row["inbox_no"],
            key=SubjectKey(*row[1:4]),
            kind=row["kind"],
            name_nos=tuple(row["name_nos"] or ()),
            event_nos=tuple(row["event_nos"] or ()),
            occurred_ats=tuple(row["occurred_ats"] or ()),
            transition_nos=tuple(row["transition_nos"] or ()),
            received_at=row["received_at"],
            hops=row["hops"] or 0,
            trace=row["trace"],
        )
        for row in rows
    ]


_DROP_ORPHANS = """
DELETE FROM inbox AS i
 USING unnest($1::int[], $2::smallint[], $3::bigint[]) AS w (project_no, bucket, subject_no)
 WHERE i.project_no = w.project_no AND i.bucket = w.bucket AND i.subject_no = w.subject_no
   AND NOT EXISTS (SELECT FROM subjects AS s
                    WHERE s.project_no = w.project_no AND s.bucket = w.bucket AND s.subject_no = w.subject_no)
"""


async def drop_orphans(conn: Connection[Record], keys: Sequence[SubjectKey]) -> None:
    """Remove entries of subjects that were deleted meanwhile."""
    await conn.execute(
        _DROP_ORPHANS, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys]
    )


_FAILED = """
UPDATE inbox SET attempts = attempts + 1
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3
"""

_BURY = """
WITH gone AS (
    DELETE FROM inbox WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND attempts > $4 RETURNING *
)
INSERT INTO inbox_dead (inbox_no, project_no, bucket, subject_no, kind, name_nos, event_nos, occurred_ats,
                        transition_nos, attempts, received_at, hops, error, died_at)
SELECT inbox_no, project_no, bucket, subject_no, kind, name_nos, event_nos, occurred_ats, transition_nos, attempts,
       received_at, hops, $5, $6
  FROM gone
RETURNING inbox_no
"""


async def failed(conn: Connection[Record], key: SubjectKey, *, error: str, now: datetime) -> int:
    """Count a failure of this subject's entries; returns how many were set aside for good. `error` holds no values."""
    await conn.execute(_FAILED, key.project_no, key.bucket, key.subject_no)
    rows = await conn.fetch(_BURY, key.project_no, key.bucket, key.subject_no, MAX_ATTEMPTS, error, now)
    return len(rows)


# In order, and past whoever works on them.
_LEAVE = """
UPDATE inbox SET attempts = 1
 WHERE inbox_no = ANY (ARRAY(
       SELECT i.inbox_no
         FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS w (project_no, bucket, subject_no)
         JOIN inbox AS i
           ON i.project_no = w.project_no AND i.bucket = w.bucket AND i.subject_no = w.subject_no AND i.attempts = 0
        ORDER BY i.inbox_no
          FOR UPDATE OF i SKIP LOCKED))
"""


async def leave_to_retries(conn: Connection[Record], keys: Sequence[SubjectKey]) -> None:
    """Put entries of these subjects that nobody has tried to those that failed, unless somebody is working on them."""
    await conn.execute(_LEAVE, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys])


_EVENTS = """
SELECT e.event_no, e.event_id, e.properties
  FROM unnest($2::smallint[], $3::bigint[], $4::int[], $5::timestamptz[], $6::bigint[])
       AS w (bucket, subject_no, name_no, occurred_at, event_no)
  JOIN events AS e
    ON e.project_no = $1 AND e.bucket = w.bucket AND e.subject_no = w.subject_no AND e.name_no = w.name_no
   AND e.occurred_at = w.occurred_at AND e.event_no = w.event_no
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One event that arrived for a subject, as the inbox names it."""

    key: SubjectKey
    name_no: int
    event_no: int
    occurred_at: datetime


async def events(
    conn: Connection[Record], project_no: int, arrivals: Sequence[Arrival]
) -> dict[int, tuple[str, dict[str, Any]]]:
    """event_no → (event id, properties) of these arrivals."""
    rows = await conn.fetch(
        _EVENTS, project_no, [a.key.bucket for a in arrivals], [a.key.subject_no for a in arrivals],
        [a.name_no for a in arrivals], [a.occurred_at for a in arrivals], [a.event_no for a in arrivals],
    )  # fmt: skip
    return {row["event_no"]: (row["event_id"], row["properties"]) for row in rows}
