"""Who converted: the first goal event after each trigger, and after each choice of an arm. Callers hold the subjects.

What is written is the least of all events in the window, so crediting twice, or in another order, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalEvent:
    """An event of a name that some goal of the project has, or had."""

    key: SubjectKey
    event_name: str
    occurred_at: datetime
    received_at: datetime


# All that is measured of the subject `w`: what its enrollments were triggered by, and which arms were chosen for it.
_MEASURED = """
SELECT enrollment_id, '' AS step_id, 0 AS seq, journey_id, goal_revision, triggered_at AS since
  FROM enrollments
 WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no
UNION ALL
SELECT execution_id, step_id, seq, journey_id, goal_revision, chosen_at
  FROM arm_choices
 WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no
"""

_ENTERED = """
SELECT enrollment_id, '' AS step_id, 0 AS seq, journey_id, goal_revision, triggered_at AS since
  FROM enrollments
 WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no AND enrollment_id = w.enrollment_id
"""

# A goal is that of the enrollment. Windows are whole seconds and more, and sessions are in UTC: a day has 24 hours.
_GOAL = """
  JOIN journey_goals AS g
    ON g.project_no = $1 AND g.journey_id = m.journey_id AND g.goal_revision = m.goal_revision
"""

_INSERT = """
INSERT INTO conversions AS kept (project_no, bucket, subject_no, enrollment_id, step_id, seq, journey_id, occurred_at,
                                 received_at)
"""

# Rows that would stay as they are are not written anew.
_LEAST = """
ON CONFLICT ON CONSTRAINT conversions_pkey DO UPDATE SET
    occurred_at = LEAST(kept.occurred_at, excluded.occurred_at),
    received_at = LEAST(kept.received_at, excluded.received_at)
 WHERE excluded.occurred_at < kept.occurred_at OR excluded.received_at < kept.received_at
"""

# A batch may have hundreds of events of somebody with a hundred thousand enrollments: what is measured meets the events
# of a name as one row, in which those of its window are found by halving. Of stretches that begin or end the row the
# least is known.
_CREDIT = f"""
WITH happened AS (
    SELECT bucket, subject_no, event_name, occurred_at, min(received_at) AS received_at
      FROM unnest($2::smallint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[])
           AS one (bucket, subject_no, event_name, occurred_at, received_at)
     GROUP BY bucket, subject_no, event_name, occurred_at
), ordered AS (
    SELECT *, min(received_at) OVER (PARTITION BY bucket, subject_no, event_name ORDER BY occurred_at) AS up_to_it,
           min(received_at) OVER (PARTITION BY bucket, subject_no, event_name ORDER BY occurred_at DESC) AS from_it_on
      FROM happened
), of_name AS MATERIALIZED (
    SELECT bucket, subject_no, event_name, array_agg(occurred_at ORDER BY occurred_at) AS occurred,
           array_agg(received_at ORDER BY occurred_at) AS received,
           array_agg(up_to_it ORDER BY occurred_at) AS up_to, array_agg(from_it_on ORDER BY occurred_at) AS from_on
      FROM ordered
     GROUP BY bucket, subject_no, event_name
)
{_INSERT.strip()}
SELECT $1, w.bucket, w.subject_no, m.enrollment_id, m.step_id, m.seq, m.journey_id, w.occurred[within.begins],
       CASE WHEN within.ends = cardinality(w.occurred) THEN w.from_on[within.begins]
            WHEN within.begins = 1 THEN w.up_to[within.ends]
            ELSE (SELECT min(at) FROM unnest(w.received[within.begins:within.ends]) AS at) END
  FROM of_name AS w
 CROSS JOIN LATERAL ({_MEASURED.strip()}) AS m
{_GOAL.strip()}
 CROSS JOIN LATERAL (
       SELECT width_bucket(m.since, w.occurred) + 1 AS begins, width_bucket(m.since + g.goal_window, w.occurred) AS ends
       OFFSET 0) AS within
 WHERE g.event_name = w.event_name COLLATE "C" AND within.begins <= within.ends
{_LEAST.strip()}
"""


async def credit(conn: Connection[Record], project_no: int, events: Sequence[GoalEvent]) -> None:
    """Credit these events to what their subjects were measured by then."""
    await conn.execute(
        _CREDIT, project_no, [e.key.bucket for e in events], [e.key.subject_no for e in events],
        [e.event_name for e in events], [e.occurred_at for e in events], [e.received_at for e in events],
    )  # fmt: skip


# Hardly anybody has a goal event after what is looked back to: the row of the name tells, before months are searched.
_LOOK_BACK = f"""
{_INSERT.strip()}
SELECT $1, w.bucket, w.subject_no, m.enrollment_id, m.step_id, m.seq, m.journey_id, e.occurred_at, e.received_at
  FROM unnest({{columns}}) AS w ({{names}})
 CROSS JOIN LATERAL ({{measured}}) AS m
{_GOAL.strip()}
  JOIN event_names AS t ON t.project_no = $1 AND t.name = g.event_name
  JOIN subject_event_state AS s
    ON s.project_no = $1 AND s.bucket = w.bucket AND s.subject_no = w.subject_no AND s.name_no = t.name_no
   AND s.last_at > m.since
 CROSS JOIN LATERAL (
       SELECT min(occurred_at) AS occurred_at, min(received_at) AS received_at
         FROM events
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no AND name_no = t.name_no
          AND occurred_at > m.since AND occurred_at <= m.since + g.goal_window) AS e
 WHERE e.occurred_at IS NOT NULL
{_LEAST.strip()}
"""

_LOOK_BACK_AT_ENTRIES = _LOOK_BACK.format(
    columns="$2::smallint[], $3::bigint[], $4::uuid[]",
    names="bucket, subject_no, enrollment_id",
    measured=_ENTERED.strip(),
)

_LOOK_BACK_AT_ALL = _LOOK_BACK.format(
    columns="$2::smallint[], $3::bigint[]", names="bucket, subject_no", measured=_MEASURED.strip()
)


async def look_back_at_entries(
    conn: Connection[Record], project_no: int, entries: Sequence[tuple[SubjectKey, UUID]]
) -> None:
    """Credit to these enrollments, which were just made, what had happened since their triggers."""
    await conn.execute(
        _LOOK_BACK_AT_ENTRIES, project_no, [key.bucket for key, _ in entries], [key.subject_no for key, _ in entries],
        [enrollment_id for _, enrollment_id in entries],
    )  # fmt: skip


async def look_back(conn: Connection[Record], project_no: int, keys: Sequence[SubjectKey]) -> None:
    """Credit everything that is known of these subjects: their past has changed."""
    await conn.execute(_LOOK_BACK_AT_ALL, project_no, [key.bucket for key in keys], [key.subject_no for key in keys])


_GOAL_NAMES = "SELECT DISTINCT event_name FROM journey_goals WHERE project_no = $1 AND event_name IS NOT NULL"


async def goal_names(conn: Connection[Record], project_no: int) -> set[str]:
    """The events that any goal has, or had: enrollments are measured by the goal under which they came in, for ever."""
    return {row["event_name"] for row in await conn.fetch(_GOAL_NAMES, project_no)}
