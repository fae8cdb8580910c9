"""Passes over all subjects of a project: asked for, begun, done part by part, finished.

A queued row is a promise: it is told to Temporal until the run is done, by whichever worker looks next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from asyncpg import Connection, Record

from orchestrator.domain.subject import BUCKETS

#: sweep: all segments, on schedule; evaluate: one, because somebody asked; build: those whose rules are new.
Kind = Literal["sweep", "evaluate", "build"]

#: A run that is not done is told again after this, in case its workflow was lost.
TELL_AGAIN = timedelta(seconds=30)

#: How long finished runs are kept to be looked at.
KEPT = timedelta(days=7)

# Whoever shares a run that waits holds it: it does not begin before what they changed is there to be seen. And Temporal
# is told again, since its workflow may have looked already.
_REQUEST = """
INSERT INTO segment_runs (project_no, kind, segment_no, status, requested_at) VALUES ($1, $2, $3, 'queued', $4)
ON CONFLICT (project_no, kind, coalesce(segment_no, 0)) WHERE status = 'queued' DO UPDATE SET told_at = NULL
RETURNING run_no
"""


async def request(conn: Connection[Record], project_no: int, kind: Kind, segment_no: int | None, now: datetime) -> int:
    """Ask for a run; returns its number. One that has not begun is shared: it will look at the world after `now`.

    It begins when this transaction has ended. Comes behind all other locks but those of other runs.
    """
    run_no: int = await conn.fetchval(_REQUEST, project_no, kind, segment_no, now)
    return run_no


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """A run that a workflow has to see to."""

    project_no: int
    run_no: int
    segment_no: int | None


_UNTOLD = """
UPDATE segment_runs AS r SET told_at = $1
  FROM (SELECT project_no, run_no FROM segment_runs
         WHERE status <> 'done' AND kind <> 'sweep' AND (told_at IS NULL OR told_at < $2)
         ORDER BY requested_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS open
 WHERE r.project_no = open.project_no AND r.run_no = open.run_no
RETURNING r.project_no, r.run_no, r.segment_no
"""


async def claim_untold(conn: Connection[Record], now: datetime, limit: int) -> list[Untold]:
    """Runs to tell Temporal of, at most `limit`. Whoever claims one and fails is followed by the next look."""
    return [Untold(**row) for row in await conn.fetch(_UNTOLD, now, now - TELL_AGAIN, limit)]


# Whoever holds one has it told again, or is about to begin it.
_NOT_TOLD = """
UPDATE segment_runs AS r SET told_at = NULL
  FROM (SELECT project_no, run_no FROM segment_runs
         WHERE status <> 'done'
           AND (project_no, run_no) IN (SELECT * FROM unnest($1::int[], $2::bigint[])) FOR UPDATE SKIP LOCKED) AS open
 WHERE r.project_no = open.project_no AND r.run_no = open.run_no
"""


async def not_told(conn: Connection[Record], runs: Iterable[Untold]) -> None:
    """Take back that Temporal was told of these."""
    keys = [(run.project_no, run.run_no) for run in runs]
    await conn.execute(_NOT_TOLD, [project_no for project_no, _ in keys], [run_no for _, run_no in keys])


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that is not done; `begun`: its parts may have been looked at."""

    run_no: int
    begun: bool


_OPEN = """
SELECT run_no, status = 'running' AS begun FROM segment_runs
 WHERE project_no = $1 AND status <> 'done' AND kind = $2 AND segment_no IS NOT DISTINCT FROM $3
 ORDER BY status = 'queued', run_no LIMIT 1
   FOR UPDATE
"""


async def hold_next(conn: Connection[Record], project_no: int, kind: Kind, segment_no: int | None) -> Run | None:
    """The run to do next, held: one that was begun and not finished, else one that waits; None when there is none.

    Waits for those who have asked for it: what they changed can be seen from now on.
    """
    row = await conn.fetchrow(_OPEN, project_no, kind, segment_no)
    return Run(**row) if row else None


_BEGIN = """
UPDATE segment_runs SET status = 'running', snapshot_at = $3, revisions = $4 WHERE project_no = $1 AND run_no = $2
"""


async def begin(
    conn: Connection[Record], project_no: int, run_no: int, revisions: Mapping[int, int], now: datetime
) -> None:
    """Begin a run that waits, and is held. `revisions` are those of the rules it is begun with, by segment."""
    await conn.execute(_BEGIN, project_no, run_no, now, {str(no): revision for no, revision in revisions.items()})


_HOLD_OPEN = "SELECT status = 'running' FROM segment_runs WHERE project_no = $1 AND run_no = $2 FOR SHARE"

_NEXT = """
SELECT max(last_bucket) FROM segment_run_chunks WHERE project_no = $1 AND run_no = $2 AND first_bucket BETWEEN $3 AND $4
"""


async def next_bucket(conn: Connection[Record], project_no: int, run_no: int, first: int, last: int) -> int:
    """Where a part of a run goes on; behind `last` when it is done.

    The run is not finished before the transaction ends.
    """
    if not await conn.fetchval(_HOLD_OPEN, project_no, run_no):
        return last + 1
    done: int | None = await conn.fetchval(_NEXT, project_no, run_no, first, last)
    return first if done is None else done + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What came of some buckets. `changes`: number of each segment that was asked → (entered, departed)."""

    subjects: int
    drift: int
    changes: Mapping[int, tuple[int, int]]


_RECORD = """
INSERT INTO segment_run_chunks (project_no, run_no, first_bucket, last_bucket, subjects, drift, changes)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def record(conn: Connection[Record], project_no: int, run_no: int, first: int, last: int, chunk: Chunk) -> None:
    changes = {str(number): list(counts) for number, counts in chunk.changes.items()}
    await conn.execute(_RECORD, project_no, run_no, first, last, chunk.subjects, chunk.drift, changes)


_FINISH = """
WITH chunks AS (
    DELETE FROM segment_run_chunks WHERE project_no = $1 AND run_no = $2
    RETURNING first_bucket, last_bucket, subjects, drift, changes
), changes AS (
    SELECT c.key::int AS segment_no, sum((c.value ->> 0)::bigint) AS entered, sum((c.value ->> 1)::bigint) AS departed,
           sum(chunks.last_bucket - chunks.first_bucket + 1) AS buckets
      FROM chunks CROSS JOIN LATERAL jsonb_each(chunks.changes) AS c GROUP BY c.key
), run AS (
    UPDATE segment_runs SET status = 'done', finished_at = $3,
           subjects = coalesce((SELECT sum(subjects) FROM chunks), 0),
           drift = coalesce((SELECT sum(drift) FROM chunks), 0),
           entered = coalesce((SELECT sum(entered) FROM changes), 0),
           departed = coalesce((SELECT sum(departed) FROM changes), 0)
     WHERE project_no = $1 AND run_no = $2 AND status = 'running'
    RETURNING snapshot_at, revisions, subjects, entered, departed, drift
), touched AS (
    UPDATE segments AS s
       -- Rules that were changed meanwhile are still to be built.
       SET built_revision = CASE WHEN s.rules_revision = (run.revisions ->> s.segment_no::text)::int
                                 THEN s.rules_revision ELSE s.built_revision END,
           last_evaluated_at = GREATEST(s.last_evaluated_at, told.at),
           last_entered = CASE WHEN told.at >= coalesce(s.last_evaluated_at, '-infinity')
                               THEN told.entered ELSE s.last_entered END,
           last_departed = CASE WHEN told.at >= coalesce(s.last_evaluated_at, '-infinity')
                                THEN told.departed ELSE s.last_departed END
      FROM run
     CROSS JOIN LATERAL jsonb_object_keys(run.revisions) AS begun (segment_no)
      -- Not where another run built it before this one came to all buckets.
      LEFT JOIN (SELECT segment_no, snapshot_at AS at, changes.entered, changes.departed FROM changes, run
                  WHERE buckets = $4) AS told ON told.segment_no = begun.segment_no::int
     WHERE s.project_no = $1 AND s.segment_no = begun.segment_no::int
)
SELECT subjects, entered, departed, drift FROM run
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    subjects: int
    entered: int
    departed: int
    drift: int


async def finish(conn: Connection[Record], project_no: int, run_no: int, now: datetime) -> Finished | None:
    """Add up the parts, and say what was found on the segments that all of them asked; None when that has been done."""
    row = await conn.fetchrow(_FINISH, project_no, run_no, now, BUCKETS)
    return Finished(**row) if row else None


_FINISHED = """
SELECT subjects, entered, departed, drift FROM segment_runs WHERE project_no = $1 AND run_no = $2 AND status = 'done'
"""


async def finished(conn: Connection[Record], project_no: int, run_no: int) -> Finished | None:
    """What came of a run that was finished before; None: there is none."""
    row = await conn.fetchrow(_FINISHED, project_no, run_no)
    return Finished(**row) if row else None


_FORGET = """
DELETE FROM segment_runs WHERE (project_no, run_no) IN (
    SELECT project_no, run_no FROM segment_runs WHERE status = 'done' AND finished_at < $1 LIMIT $2)
"""


async def forget(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` runs that were finished long ago; returns how many."""
    return int((await conn.execute(_FORGET, now - KEPT, limit)).rsplit(" ", 1)[1])


_PROJECTS = """
SELECT p.project_no FROM projects AS p
 WHERE p.project_no > $1 AND EXISTS (SELECT FROM subjects AS s WHERE s.project_no = p.project_no)
 ORDER BY p.project_no LIMIT $2
"""


async def peopled(conn: Connection[Record], after: int, limit: int) -> list[int]:
    """Projects that have subjects, at most `limit`, with a number above `after`, by number."""
    return [row["project_no"] for row in await conn.fetch(_PROJECTS, after, limit)]
