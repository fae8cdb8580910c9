"""First triggers of subjects and who of them converted, counted over the ledgers: enrollments and conversions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.domain.holdout import Holdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """Subjects who were first triggered on a day (UTC), by one version and under one holdout of the project, to be
    measured by one revision of the goal.

    `held_out_by` None: exposed. `global_percent` None: not recorded; 0: nobody was held out by the project. `late`: of
    those who converted, those whom a cohort's maturity did not wait for.
    """

    day: date
    held_out_by: str | None
    version: int
    global_percent: int | None
    global_salt: str | None
    goal_revision: int
    subjects: int
    converted: int
    late: int


# Where a goal names no event, nobody can convert: such triggers measure nothing. Of two at one instant, the one that
# came in first: ids rise with time.
TRIGGERED = """
WITH firsts AS (
    SELECT DISTINCT ON (n.bucket, n.subject_no) n.bucket, n.subject_no, n.enrollment_id, n.version, n.goal_revision,
           n.held_out_by, n.global_percent, n.global_salt, n.triggered_at, g.goal_window
      FROM enrollments AS n
      JOIN journey_goals AS g
        ON g.project_no = $1 AND g.journey_id = $2 AND g.goal_revision = n.goal_revision AND g.event_name IS NOT NULL
     WHERE n.project_no = $1 AND n.journey_id = $2 AND ($3::int IS NULL OR n.goal_revision = $3)
     ORDER BY n.bucket, n.subject_no, n.triggered_at, n.enrollment_id
)
SELECT (f.triggered_at AT TIME ZONE 'UTC')::date AS day, f.held_out_by, f.version, f.global_percent, f.global_salt,
       f.goal_revision, count(*) AS subjects, count(c.enrollment_id) AS converted,
       count(*) FILTER (WHERE c.received_at > f.triggered_at + f.goal_window + $4::interval) AS late
  FROM firsts AS f
  LEFT JOIN conversions AS c
    ON c.project_no = $1 AND c.journey_id = $2 AND c.step_id = '' AND c.bucket = f.bucket
   AND c.subject_no = f.subject_no AND c.enrollment_id = f.enrollment_id
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6
"""


async def triggered(
    conn: Connection[Record], project_no: int, journey_id: str, goal_revision: int | None, grace: timedelta
) -> list[Triggered]:
    """By day, side, version, project's holdout and goal; those measured by this revision, or by any. Each subject is
    there once.
    """
    rows = await conn.fetch(TRIGGERED, project_no, journey_id, goal_revision, grace)
    return [Triggered(**row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """As many of those first triggered on a day, on this side, came again within their windows and were on another side
    then, under another holdout.
    """

    day: date
    held_out_by: str | None
    version: int
    global_percent: int | None
    global_salt: str | None
    subjects: int


# Only subjects are looked at that were on two sides: few, and of each the first trigger and one after it. Two subjects
# that became one may have been on both as well, without any change: so the holdouts must differ.
CHANGED = """
WITH held AS MATERIALIZED (
    SELECT version, definition -> 'holdout' AS holdout FROM journey_versions WHERE project_no = $1 AND journey_id = $2
), both_sides AS MATERIALIZED (
    SELECT bucket, subject_no FROM enrollments WHERE project_no = $1 AND journey_id = $2
     GROUP BY bucket, subject_no
    HAVING min(coalesce(held_out_by, '')) <> max(coalesce(held_out_by, ''))
)
SELECT (f.triggered_at AT TIME ZONE 'UTC')::date AS day, f.held_out_by, f.version, f.global_percent, f.global_salt,
       count(*) AS subjects
  FROM both_sides AS s
 CROSS JOIN LATERAL (
       SELECT n.version, n.held_out_by, n.global_percent, n.global_salt, n.triggered_at, g.goal_window,
              (SELECT holdout FROM held WHERE held.version = n.version) AS holdout
         FROM enrollments AS n
         JOIN journey_goals AS g
           ON g.project_no = $1 AND g.journey_id = $2 AND g.goal_revision = n.goal_revision AND g.event_name IS NOT NULL
        WHERE n.project_no = $1 AND n.journey_id = $2 AND n.bucket = s.bucket AND n.subject_no = s.subject_no
          AND ($3::int IS NULL OR n.goal_revision = $3)
        ORDER BY n.triggered_at, n.enrollment_id
        LIMIT 1) AS f
 CROSS JOIN LATERAL (
       SELECT FROM enrollments AS n
        WHERE n.project_no = $1 AND n.journey_id = $2 AND n.bucket = s.bucket AND n.subject_no = s.subject_no
          AND n.triggered_at > f.triggered_at AND n.triggered_at <= f.triggered_at + f.goal_window
          AND n.held_out_by IS DISTINCT FROM f.held_out_by
          AND ((SELECT holdout FROM held WHERE held.version = n.version), n.global_percent, n.global_salt)
              IS DISTINCT FROM (f.holdout, f.global_percent, f.global_salt)
        LIMIT 1) AS another
 GROUP BY 1, 2, 3, 4, 5
"""


async def changed(
    conn: Connection[Record], project_no: int, journey_id: str, goal_revision: int | None
) -> list[Changed]:
    """Of the subjects of `triggered`; nothing for those of whom none did."""
    return [Changed(**row) for row in await conn.fetch(CHANGED, project_no, journey_id, goal_revision)]


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


_HOLDOUTS = """
SELECT version, coalesce((definition #>> '{holdout,percent}')::int, 0) AS percent,
       definition #>> '{holdout,salt}' AS salt
  FROM journey_versions WHERE project_no = $1 AND journey_id = $2
"""


async def holdouts(conn: Connection[Record], project_no: int, journey_id: str) -> dict[int, Holdout]:
    """Of the journey, by version. Percent 0: nobody is held out by it."""
    rows = await conn.fetch(_HOLDOUTS, project_no, journey_id)
    return {row["version"]: Holdout(percent=row["percent"], salt=row["salt"]) for row in rows}
