"""Giving all that one subject has to another. The caller holds both rows, and has held off ingest and passes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import memberships
from orchestrator.storage.memberships import Cause

#: Parameters of each statement: $1 the project, ($2, $3) the subject that gives, ($4, $5) the one that is given.
_FROM = "project_no = $1 AND bucket = $2 AND subject_no = $3"

_MOVE = "UPDATE {table} SET bucket = $4, subject_no = $5 WHERE " + _FROM

#: Rows that nothing of the other subject can stand in the way of, once `fold_held` is done.
MOVED = (
    # Whoever drops what is held notes it among the refused, and holds no subject: so these come after those.
    "events", "inbox", "inbox_dead", "executions", "visits", "sends", "webhook_calls", "log_messages", "outbox",
    "outbox_dead", "held_entries", "refused_entries", "test_sends", "conversions",
    # Those merged into it earlier lead to the other one from now on.
    "subject_aliases",
)  # fmt: skip

# An entry key that both have had stays with the entry of the one that stays. Looked up, it refuses as before; the other
# entry counts, too, under a key of its own that no event and no call gives.
_ENROLLMENTS = """
UPDATE enrollments AS e
   SET bucket = $4, subject_no = $5,
       entry_key = CASE WHEN EXISTS (
                            SELECT FROM enrollments AS o
                             WHERE o.project_no = $1 AND o.bucket = $4 AND o.subject_no = $5
                               AND o.journey_id = e.journey_id AND o.entry_key = e.entry_key)
                        THEN 'merged:' || e.enrollment_id ELSE e.entry_key END
 WHERE e.project_no = $1 AND e.bucket = $2 AND e.subject_no = $3
"""

# What holds for the one that stays goes on to hold; what held for the other then held for one execution only.
_ARM_CHOICES = """
UPDATE arm_choices AS a
   SET bucket = $4, subject_no = $5,
       unit = CASE WHEN a.unit = '' AND EXISTS (
                       SELECT FROM arm_choices AS o
                        WHERE o.project_no = $1 AND o.bucket = $4 AND o.subject_no = $5
                          AND o.journey_id = a.journey_id AND o.step_id = a.step_id AND o.unit = '')
                   THEN 'merged:' || a.execution_id ELSE a.unit END
 WHERE a.project_no = $1 AND a.bucket = $2 AND a.subject_no = $3
"""

# Of an entry that waits for both, that of the one that stays goes on waiting.
_HELD_TWICE = """
DELETE FROM held_entries AS h
 WHERE h.project_no = $1 AND h.bucket = $2 AND h.subject_no = $3
   AND EXISTS (SELECT FROM held_entries AS o
                WHERE o.project_no = $1 AND o.bucket = $4 AND o.subject_no = $5
                  AND o.journey_id = h.journey_id AND o.entry_key = h.entry_key)
RETURNING h.journey_id
"""

# In the order in which ingest writes them.
_DAYS = f"""
WITH given AS (DELETE FROM subject_event_days WHERE {_FROM} RETURNING *)
INSERT INTO subject_event_days AS kept (project_no, bucket, subject_no, name_no, day, total, first_at, last_at)
SELECT $1, $4, $5, name_no, day, total, first_at, last_at FROM given ORDER BY name_no, day
ON CONFLICT (project_no, bucket, subject_no, name_no, day) DO UPDATE SET
    total = kept.total + excluded.total,
    first_at = LEAST(kept.first_at, excluded.first_at),
    last_at = GREATEST(kept.last_at, excluded.last_at)
"""

_STATE = f"""
WITH given AS (DELETE FROM subject_event_state WHERE {_FROM} RETURNING *)
INSERT INTO subject_event_state AS kept (project_no, bucket, subject_no, name_no, total, first_at, last_at)
SELECT $1, $4, $5, name_no, total, first_at, last_at FROM given ORDER BY name_no
ON CONFLICT (project_no, bucket, subject_no, name_no) DO UPDATE SET
    total = kept.total + excluded.total,
    first_at = LEAST(kept.first_at, excluded.first_at),
    last_at = GREATEST(kept.last_at, excluded.last_at)
"""

# A refusal of either is one of the survivor, since the first of them.
_OPT_OUTS = f"""
WITH given AS (DELETE FROM opt_outs WHERE {_FROM} RETURNING *)
INSERT INTO opt_outs AS kept (project_no, bucket, subject_no, channel, category, opted_out_at)
SELECT $1, $4, $5, channel, category, opted_out_at FROM given
ON CONFLICT (project_no, bucket, subject_no, channel, category) DO UPDATE SET
    opted_out_at = LEAST(kept.opted_out_at, excluded.opted_out_at)
"""

_SUPPRESSIONS = f"""
WITH given AS (DELETE FROM suppressions WHERE {_FROM} RETURNING *)
INSERT INTO suppressions AS kept (project_no, bucket, subject_no, channel, reason, suppressed_at)
SELECT $1, $4, $5, channel, reason, suppressed_at FROM given
ON CONFLICT (project_no, bucket, subject_no, channel) DO UPDATE SET
    suppressed_at = LEAST(kept.suppressed_at, excluded.suppressed_at)
"""

_HOLD_LISTS = """
SELECT FROM segments
 WHERE project_no = $1
   AND segment_no IN (SELECT segment_no FROM static_members WHERE project_no = $1 AND bucket = $2 AND subject_no = $3)
 ORDER BY segment_no
   FOR KEY SHARE
"""

# Lists that were deleted meanwhile are left behind, and go with the subject.
_LISTS = """
WITH added AS (
    INSERT INTO static_members (project_no, bucket, subject_no, segment_no, added_at)
    SELECT $1, $4, $5, m.segment_no, m.added_at
      FROM static_members AS m
      JOIN segments AS s ON s.project_no = $1 AND s.segment_no = m.segment_no
     WHERE m.project_no = $1 AND m.bucket = $2 AND m.subject_no = $3
    ON CONFLICT ON CONSTRAINT static_members_pkey DO NOTHING
    RETURNING segment_no
), sizes AS (
    INSERT INTO segment_sizes (project_no, segment_no, delta) SELECT $1, segment_no, 1 FROM added
)
SELECT segment_no FROM added ORDER BY segment_no
"""

_KNOWN_SINCE = """
UPDATE subjects AS kept SET created_at = LEAST(kept.created_at, given.created_at)
  FROM subjects AS given
 WHERE kept.project_no = $1 AND kept.bucket = $4 AND kept.subject_no = $5
   AND given.project_no = $1 AND given.bucket = $2 AND given.subject_no = $3
"""

_REMOVE = f"DELETE FROM subjects WHERE {_FROM}"

#: Tables whose rows are made one with those of the other subject, or go.
FOLDED = (
    "subjects", "enrollments", "arm_choices", "subject_event_days", "subject_event_state", "opt_outs", "suppressions",
    "static_members", "subject_segments", "segment_transitions",
)  # fmt: skip


_MORE_EVENTS = f"SELECT count(*) > $4 FROM (SELECT FROM events WHERE {_FROM} LIMIT $4 + 1) AS one"


async def has_more_events(conn: Connection[Record], given: SubjectKey, count: int) -> bool:
    """Whether the one that gives has more events than so many."""
    more: bool = await conn.fetchval(_MORE_EVENTS, *given, count)
    return more


async def fold_held(conn: Connection[Record], given: SubjectKey, kept: SubjectKey) -> list[str]:
    """Hold no entry twice that waits for both; returns the journeys of those that went, once for each."""
    rows = await conn.fetch(_HELD_TWICE, given.project_no, given.bucket, given.subject_no, kept.bucket, kept.subject_no)
    return [row["journey_id"] for row in rows]


async def give(conn: Connection[Record], given: SubjectKey, kept: SubjectKey) -> list[int]:
    """Leave nothing of `given`, and `kept` with all of it but attributes, time zone, segments with rules, and the
    history of segments; no entry is held of both. Returns the lists that `kept` was not on.
    """
    keys = (given.project_no, given.bucket, given.subject_no, kept.bucket, kept.subject_no)
    # Whoever is deleting one of these lists has committed then, and nobody begins to.
    await conn.execute(_HOLD_LISTS, *keys[:3])
    added = [row["segment_no"] for row in await conn.fetch(_LISTS, *keys)]
    for statement in (_DAYS, _STATE, _ENROLLMENTS, _ARM_CHOICES, _OPT_OUTS, _SUPPRESSIONS, _KNOWN_SINCE):
        await conn.execute(statement, *keys)
    for table in MOVED:
        await conn.execute(_MOVE.format(table=table), *keys)
    await memberships.delete(conn, given)
    await conn.execute(_REMOVE, *keys[:3])
    return added


# By segment, from the first transition that somebody has still to be told of.
_UNTOLD = f"""
WITH waiting AS MATERIALIZED (
    SELECT unnest(transition_nos) AS transition_no FROM inbox WHERE {_FROM}
     UNION ALL
    SELECT unnest(transition_nos) FROM inbox_dead WHERE {_FROM}
), untold AS MATERIALIZED (
    SELECT segment_no, min(transition_no) AS first
      FROM segment_transitions
     WHERE {_FROM} AND transition_no IN (SELECT transition_no FROM waiting)
       AND segment_no IN (SELECT segment_no FROM segments WHERE project_no = $1)
     GROUP BY segment_no
)
SELECT t.segment_no, t.transition_no, t.entered, t.cause, t.as_of
  FROM segment_transitions AS t JOIN untold AS u ON u.segment_no = t.segment_no AND t.transition_no >= u.first
 WHERE t.project_no = $1 AND t.bucket = $2 AND t.subject_no = $3
 ORDER BY t.transition_no
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A coming or going that the survivor is given. `transition_no`: its number when it was the other one's."""

    segment_no: int
    entered: bool
    cause: Cause
    at: datetime
    transition_no: int | None


async def untold(conn: Connection[Record], given: SubjectKey) -> dict[int, list[Step]]:
    """The comings and goings of `given` that somebody has still to be told of, and those that followed, by segment."""
    steps: dict[int, list[Step]] = {}
    for row in await conn.fetch(_UNTOLD, given.project_no, given.bucket, given.subject_no):
        step = Step(
            segment_no=row["segment_no"],
            entered=row["entered"],
            cause=row["cause"],
            at=row["as_of"],
            transition_no=row["transition_no"],
        )
        steps.setdefault(step.segment_no, []).append(step)
    return steps


_STEP = """
INSERT INTO segment_transitions (project_no, bucket, subject_no, segment_no, entered, cause, as_of)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING transition_no
"""

# A number that stands for nothing any more is left out.
_RENUMBER = """
UPDATE {table} AS i
   SET transition_nos = ARRAY(
           SELECT coalesce(step.new, told.no) FROM unnest(i.transition_nos) WITH ORDINALITY AS told (no, place)
             LEFT JOIN unnest($5::bigint[], $6::bigint[]) AS step (old, new) ON step.old = told.no
            WHERE step.old IS NOT NULL OR told.no <> ALL ($4::bigint[])
            ORDER BY told.place)
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND transition_nos && $4::bigint[]
"""


async def retell(conn: Connection[Record], kept: SubjectKey, steps: Sequence[Step], before: Collection[int]) -> None:
    """Have `kept` go these steps, in order, and be told of instead of the other one; `before` are the numbers of all
    that was still to be told of that one. Counts nobody.
    """
    key = (kept.project_no, kept.bucket, kept.subject_no)
    renumbered: dict[int, int] = {}
    for step in steps:
        number = await conn.fetchval(_STEP, *key, step.segment_no, step.entered, step.cause, step.at)
        if step.transition_no is not None:
            renumbered[step.transition_no] = number
    if before:
        for table in ("inbox", "inbox_dead"):
            await conn.execute(
                _RENUMBER.format(table=table), *key, list(before), list(renumbered), list(renumbered.values())
            )
