"""First triggers of subjects and who of them converted, counted over the ledgers: enrollments and conversions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """Subjects who were first triggered on a day (UTC), by one version, to be measured by one revision of the goal.

    `held_out_by` None: exposed. `late`: of those who converted, those whom a cohort's maturity did not wait for.
    """

    day: date
    held_out_by: str | None
    version: int
    goal_revision: int
    subjects: int
    converted: int
    late: int


# Where a goal names no event, nobody can convert: such triggers measure nothing. Of two at one instant, the one that
# came in first: ids rise with time.
_TRIGGERED = """
WITH firsts AS (
    SELECT DISTINCT ON (n.bucket, n.subject_no) n.bucket, n.subject_no, n.enrollment_id, n.version, n.goal_revision,
           n.held_out_by, n.triggered_at, g.goal_window
      FROM enrollments AS n
      JOIN journey_goals AS g
        ON g.project_no = $1 AND g.journey_id = $2 AND g.goal_revision = n.goal_revision AND g.event_name IS NOT NULL
     WHERE n.project_no = $1 AND n.journey_id = $2 AND ($3::int IS NULL OR n.goal_revision = $3)
     ORDER BY n.bucket, n.subject_no, n.triggered_at, n.enrollment_id
)
SELECT (f.triggered_at AT TIME ZONE 'UTC')::date AS day, f.held_out_by, f.version, f.goal_revision,
       count(*) AS subjects, count(c.enrollment_id) AS converted,
       count(*) FILTER (WHERE c.received_at > f.triggered_at + f.goal_window + $4::interval) AS late
  FROM firsts AS f
  LEFT JOIN conversions AS c
    ON c.project_no = $1 AND c.journey_id = $2 AND c.step_id = '' AND c.bucket = f.bucket
   AND c.subject_no = f.subject_no AND c.enrollment_id = f.enrollment_id
 GROUP BY 1, 2, 3, 4
 ORDER BY 1, 2, 3, 4
"""


async def triggered(
    conn: Connection[Record], project_no: int, journey_id: str, goal_revision: int | None, grace: timedelta
) -> list[Triggered]:
    """By day, side, version and goal; those measured by this revision, or by any. Each subject is there once."""
    rows = await conn.fetch(_TRIGGERED, project_no, journey_id, goal_revision, grace)
    return [Triggered(**row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBy:
    """A goal of a journey. `event_name` None: it names none, and nobody is measured by it."""

    revision: int
    event_name: str | None
    window: timedelta
    since: datetime


_GOALS = """
SELECT goal_revision AS revision, event_name, goal_window AS "window", created_at AS since
  FROM journey_goals WHERE project_no = $1 AND journey_id = $2 ORDER BY goal_revision DESC
"""


async def goals(conn: Connection[Record], project_no: int, journey_id: str) -> list[MeasuredBy]:
    """All goals that a journey of this id has had, the newest first."""
    return [MeasuredBy(**row) for row in await conn.fetch(_GOALS, project_no, journey_id)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """By which share a version holds out subjects. `percent` 0: nobody."""

    version: int
    percent: int
    salt: str | None


_HOLDOUTS = """
SELECT version, coalesce((definition #>> '{holdout,percent}')::int, 0) AS percent,
       definition #>> '{holdout,salt}' AS salt
  FROM journey_versions WHERE project_no = $1 AND journey_id = $2
"""


async def holdouts(conn: Connection[Record], project_no: int, journey_id: str) -> dict[int, HeldOut]:
    """By version."""
    rows = await conn.fetch(_HOLDOUTS, project_no, journey_id)
    return {row["version"]: HeldOut(**row) for row in rows}
