"""What came of choices of arms, counted over the ledgers: arm_choices and conversions.

A choice converted if the goal of its enrollment did so within the window after it. It has matured when that window has
passed, and the grace of its step: for so long events may take to come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Of which choices: at which steps of a journey, with the grace of each, and measured by which goal (None: by any,
    each by its own). `now` is the database's clock.
    """

    project_no: int
    journey_id: str
    graces: Mapping[str, timedelta]
    goal_revision: int | None
    now: datetime

    @property
    def parameters(self) -> tuple[object, ...]:
        return (
            self.project_no, self.journey_id, self.goal_revision, self.now, list(self.graces),
            list(self.graces.values()),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTotals:
    """All choices of an arm that are measured by one goal. Subjects are counted at their first choice of the arm;
    `late` converted by events that came in when they had matured. Propensities and instants are of all choices.
    """

    step_id: str
    arm_id: str
    goal_revision: int
    window: timedelta
    subjects: int
    converted: int
    matured: int
    matured_converted: int
    late: int
    least_ppm: int
    most_ppm: int
    first_at: datetime
    last_at: datetime


# Where a goal names no event, nobody can convert: such choices measure nothing.
_OUTCOMES = """
SELECT c.step_id, c.arm_id, c.propensities, c.propensity_ppm, c.bucket, c.subject_no, c.execution_id, c.seq,
       c.chosen_at, c.goal_revision, g.goal_window,
       v.occurred_at IS NOT NULL AS converted, c.chosen_at + g.goal_window + w.grace <= $4::timestamptz AS matured,
       v.received_at > c.chosen_at + g.goal_window + w.grace AS late
  FROM {choices} AS c
  JOIN unnest($5::text[], $6::interval[]) AS w (step_id, grace) ON w.step_id = c.step_id COLLATE "C"
  JOIN journey_goals AS g
    ON g.project_no = $1 AND g.journey_id = $2 AND g.goal_revision = c.goal_revision AND g.event_name IS NOT NULL
  LEFT JOIN conversions AS v
    ON v.project_no = $1 AND v.journey_id = $2 AND v.step_id = c.step_id AND v.bucket = c.bucket
   AND v.subject_no = c.subject_no AND v.enrollment_id = c.execution_id AND v.seq = c.seq
 WHERE c.project_no = $1 AND c.journey_id = $2 AND ($3::int IS NULL OR c.goal_revision = $3)
"""

_ALL = _OUTCOMES.format(choices="arm_choices").strip()

# Whoever goes by an arm again, by a later visit or once more in its turn, is one subject: the first time counts. All
# are counted, and those of them taken off who were there before. For that, only subjects are looked at that have more
# than the choice that holds for them: few as a rule, and to put all choices in order would take thrice as long.
_TOTALS = f"""
WITH counted AS MATERIALIZED (
    SELECT step_id, arm_id, goal_revision, goal_window AS "window", count(*) AS subjects,
           count(*) FILTER (WHERE converted) AS converted, count(*) FILTER (WHERE matured) AS matured,
           count(*) FILTER (WHERE matured AND converted) AS matured_converted, count(*) FILTER (WHERE late) AS late,
           min(propensity_ppm) AS least_ppm, max(propensity_ppm) AS most_ppm, min(chosen_at) AS first_at,
           max(chosen_at) AS last_at
      FROM ({_ALL}) AS o
     GROUP BY step_id, arm_id, goal_revision, goal_window
), several AS MATERIALIZED (
    SELECT DISTINCT step_id, bucket, subject_no FROM arm_choices
     WHERE project_no = $1 AND journey_id = $2 AND (unit <> '' OR round > 0)
), again AS MATERIALIZED (
    SELECT step_id, arm_id, goal_revision, count(*) AS subjects, count(*) FILTER (WHERE converted) AS converted,
           count(*) FILTER (WHERE matured) AS matured,
           count(*) FILTER (WHERE matured AND converted) AS matured_converted, count(*) FILTER (WHERE late) AS late
      FROM (SELECT o.*, row_number() OVER (PARTITION BY step_id, arm_id, bucket, subject_no
                                           ORDER BY chosen_at, execution_id, seq) AS turn
              FROM several JOIN ({_ALL}) AS o USING (step_id, bucket, subject_no)) AS o
     WHERE turn > 1
     GROUP BY step_id, arm_id, goal_revision
)
SELECT step_id, arm_id, goal_revision, c."window", c.subjects - coalesce(a.subjects, 0) AS subjects,
       c.converted - coalesce(a.converted, 0) AS converted, c.matured - coalesce(a.matured, 0) AS matured,
       c.matured_converted - coalesce(a.matured_converted, 0) AS matured_converted,
       c.late - coalesce(a.late, 0) AS late, c.least_ppm, c.most_ppm, c.first_at, c.last_at
  FROM counted AS c
  LEFT JOIN again AS a USING (step_id, arm_id, goal_revision)
 ORDER BY step_id, arm_id, goal_revision
"""


async def totals(conn: Connection[Record], question: Question) -> list[ArmTotals]:
    """Arms that nobody went by are not there."""
    return [ArmTotals(**row) for row in await conn.fetch(_TOTALS, *question.parameters)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Choices of an arm with the same propensities, in millionths by arm, for subjects of one `fold`.

    `cluster` above 0: one choice of a subject that has several, the same number for all of them. 0: the subjects have
    no other, or it was not asked.
    """

    step_id: str
    arm_id: str
    propensities: Mapping[str, int]
    fold: int
    subjects: int
    converted: int
    matured: int
    matured_converted: int
    cluster: int = 0


#: Parts into which subjects are divided, so that what is expected of some can be learned from the others.
#: By their buckets, of which there are few: so the database knows that there are few kinds.
FOLDS = 5

_ALIKE = f"""
SELECT step_id, arm_id, propensities, bucket % {FOLDS} AS fold, count(*) AS subjects,
       count(*) FILTER (WHERE converted) AS converted, count(*) FILTER (WHERE matured) AS matured,
       count(*) FILTER (WHERE matured AND converted) AS matured_converted
  FROM ({{outcomes}}) AS o
 GROUP BY step_id, propensities, arm_id, fold
"""

_ALIKE_OF_ALL = _ALIKE.format(outcomes=_ALL)

_YOUNGEST = """(
       SELECT y.* FROM unnest($5::text[]) AS s (step_id)
        CROSS JOIN LATERAL (
              SELECT * FROM arm_choices
               WHERE project_no = $1 AND journey_id = $2 AND step_id = s.step_id COLLATE "C" AND chosen_at <= $7
               ORDER BY chosen_at DESC, execution_id
               LIMIT $8) AS y)"""

_ALIKE_OF_YOUNGEST = _ALIKE.format(outcomes=_OUTCOMES.format(choices=_YOUNGEST).strip())


async def alike(conn: Connection[Record], question: Question) -> list[Alike]:
    """All choices. For steps at which everybody has the same shares: there are as many kinds as policies, or so."""
    return [Alike(**row) for row in await conn.fetch(_ALIKE_OF_ALL, *question.parameters)]


async def youngest_alike(conn: Connection[Record], question: Question, *, until: datetime, limit: int) -> list[Alike]:
    """The same of the `limit` youngest choices at each step, none of them later than `until`. For steps at which each
    subject has shares of its own: there may be as many kinds as choices.
    """
    return [Alike(**row) for row in await conn.fetch(_ALIKE_OF_YOUNGEST, *question.parameters, until, limit)]


# Only who goes by units that are not the subject, or was drawn for again, or was two subjects, can have several: few as
# a rule. Of these each choice is told.
_AGAIN = """
    SELECT step_id, bucket, subject_no FROM arm_choices
     WHERE project_no = $1 AND journey_id = $2 AND step_id = ANY ($3::text[]) AND (unit <> '' OR round > 0)
"""

_BY_SUBJECT = f"""
WITH again AS MATERIALIZED (
    SELECT step_id, bucket, subject_no, row_number() OVER () AS cluster
      FROM (SELECT DISTINCT * FROM ({_AGAIN.replace("$3", "$5")}) AS a) AS a
)
SELECT o.step_id, o.arm_id, o.propensities, o.bucket % {FOLDS} AS fold, coalesce(a.cluster, 0) AS cluster,
       count(*) AS subjects, count(*) FILTER (WHERE converted) AS converted, count(*) FILTER (WHERE matured) AS matured,
       count(*) FILTER (WHERE matured AND converted) AS matured_converted
  FROM ({{outcomes}}) AS o
  LEFT JOIN again AS a ON a.step_id = o.step_id AND a.bucket = o.bucket AND a.subject_no = o.subject_no
 GROUP BY o.step_id, o.propensities, o.arm_id, o.bucket % {FOLDS}, a.cluster,
       CASE WHEN a.cluster IS NOT NULL THEN o.execution_id END, CASE WHEN a.cluster IS NOT NULL THEN o.seq END
"""

_ALL_BY_SUBJECT = _BY_SUBJECT.format(outcomes=_ALL)
_YOUNGEST_BY_SUBJECT = _BY_SUBJECT.format(outcomes=_OUTCOMES.format(choices=_YOUNGEST).strip())


async def by_subject(conn: Connection[Record], question: Question) -> list[Alike]:
    """All choices, with clusters. Ask `choices_again` before: each of those is a row."""
    return [Alike(**row) for row in await conn.fetch(_ALL_BY_SUBJECT, *question.parameters)]


async def youngest_by_subject(
    conn: Connection[Record], question: Question, *, until: datetime, limit: int
) -> list[Alike]:
    """The same of the `limit` youngest choices at each step, none of them later than `until`."""
    return [Alike(**row) for row in await conn.fetch(_YOUNGEST_BY_SUBJECT, *question.parameters, until, limit)]


async def choices_again(conn: Connection[Record], question: Question, *, most: int) -> int:
    """How many choices subjects have made at these steps who may have several; `most` and one for more than that."""
    counted: int = await conn.fetchval(
        f"SELECT count(*) FROM ({_AGAIN} LIMIT $4) AS again",
        question.project_no, question.journey_id, list(question.graces), most + 1,
    )  # fmt: skip
    return counted


# From one step to the next, so that it takes as many looks as there are steps.
_STEPS = """
WITH RECURSIVE step AS (
    (SELECT step_id FROM arm_choices WHERE project_no = $1 AND journey_id = $2 ORDER BY step_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.step_id FROM arm_choices AS c
             WHERE c.project_no = $1 AND c.journey_id = $2 AND c.step_id > step.step_id ORDER BY c.step_id LIMIT 1)
      FROM step WHERE step.step_id IS NOT NULL
)
SELECT step_id FROM step WHERE step_id IS NOT NULL
"""


async def steps(conn: Connection[Record], project_no: int, journey_id: str) -> list[str]:
    """The steps at which anything was ever chosen, by id."""
    return [row["step_id"] for row in await conn.fetch(_STEPS, project_no, journey_id)]
