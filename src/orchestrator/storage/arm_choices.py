"""The ledger of choices of arms. Callers that write hold the subject's row lock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.arms import Chosen, Held
from orchestrator.domain.scope import SubjectKey

#: Whose choice holds for the subject, whenever it comes.
SUBJECT_UNIT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where somebody stands. `unit`: for whom the choice holds, SUBJECT_UNIT or an execution's id."""

    key: SubjectKey
    execution_id: UUID
    seq: int
    journey_id: str
    step_id: str
    version: int
    goal_revision: int
    unit: str


# One round trip: what holds already, or else what is written now.
_CHOOSE = """
WITH kept AS MATERIALIZED (
    SELECT arm_id, round FROM arm_choices
     WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND journey_id = $6 AND step_id = $7 AND unit = $10
     ORDER BY round DESC LIMIT 1
), made AS (
    INSERT INTO arm_choices (project_no, bucket, subject_no, execution_id, seq, journey_id, step_id, version,
                             goal_revision, unit, round, arm_id, propensity_ppm, propensities, policy_version, reason,
                             draw, context, chosen_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
     WHERE NOT EXISTS (SELECT FROM kept WHERE round >= $11)
    ON CONFLICT DO NOTHING
    RETURNING arm_id, round
)
SELECT arm_id, round AS round_no FROM made
 UNION ALL
SELECT arm_id, round FROM kept WHERE NOT EXISTS (SELECT FROM made)
"""


async def choose(conn: Connection[Record], place: Place, round_no: int, chosen: Chosen, now: datetime) -> Held:
    """Record this as the choice of its round, unless there is one of that round, or of a later one; what holds then."""
    choice, key = chosen.choice, place.key
    row = await conn.fetchrow(
        _CHOOSE,
        key.project_no, key.bucket, key.subject_no, place.execution_id, place.seq, place.journey_id, place.step_id,
        place.version, place.goal_revision, place.unit, round_no, choice.arm_id, choice.propensity_ppm,
        dict(choice.propensities), chosen.policy_version, choice.reason.value, Decimal(choice.draw), chosen.context,
        now,
    )  # fmt: skip
    assert row is not None, "the caller holds the subject: nobody else chooses for it"
    return Held(**row)


_HELD = """
SELECT DISTINCT ON (step_id) step_id, arm_id, round AS round_no FROM arm_choices
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND journey_id = $4 AND unit = ''
 ORDER BY step_id, round DESC
"""


async def held(conn: Connection[Record], key: SubjectKey, journey_id: str) -> dict[str, Held]:
    """What holds for a subject whenever it comes, by step."""
    rows = await conn.fetch(_HELD, key.project_no, key.bucket, key.subject_no, journey_id)
    return {row["step_id"]: Held(arm_id=row["arm_id"], round_no=row["round_no"]) for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Which choices are counted: those of one step, made by enrollments that were measured by one of these revisions of
    the goal, and recorded by `cutoff`.
    """

    project_no: int
    journey_id: str
    step_id: str
    goal_revisions: Collection[int]
    cutoff: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """So many went by the arm `age` days before the cutoff, and converted so many days later: None, not yet."""

    arm_id: str
    age: int
    lag: int | None
    subjects: int


# The difference of two instants is in days of 24 hours and what is left, so its days are whole and exact. Who converted
# did so within the window after the choice, or has no row.
_COUNT = """
SELECT arm_id, age, age - converted AS lag, count(*) AS subjects
  FROM (SELECT a.arm_id, date_part('day', $5 - a.chosen_at)::int AS age,
               date_part('day', $5 - c.occurred_at)::int AS converted
          FROM arm_choices AS a
          LEFT JOIN conversions AS c
            ON c.project_no = a.project_no AND c.bucket = a.bucket AND c.subject_no = a.subject_no
           AND c.enrollment_id = a.execution_id AND c.step_id = a.step_id AND c.seq = a.seq AND c.occurred_at <= $5
         WHERE a.project_no = $1 AND a.journey_id = $2 AND a.step_id = $3 AND a.goal_revision = ANY ($4)
           AND a.chosen_at <= $5) AS each
 GROUP BY arm_id, age, converted
"""


async def count(conn: Connection[Record], branch: Branch) -> list[Counted]:
    """How many went by each arm when, and converted when."""
    return [Counted(**row) for row in await conn.fetch(_COUNT, *_of(branch))]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaturedChoice:
    """A choice whose window has passed."""

    arm_id: str
    context: dict[str, Any]
    age: int
    converted: bool


# Whoever was deleted has left no context behind.
_MATURED = """
SELECT a.arm_id, a.context, date_part('day', $5 - a.chosen_at)::int AS age,
       EXISTS (SELECT FROM conversions AS c
                WHERE c.project_no = a.project_no AND c.bucket = a.bucket AND c.subject_no = a.subject_no
                  AND c.enrollment_id = a.execution_id AND c.step_id = a.step_id AND c.seq = a.seq
                  AND c.occurred_at <= $5) AS converted
  FROM arm_choices AS a
 WHERE a.project_no = $1 AND a.journey_id = $2 AND a.step_id = $3 AND a.goal_revision = ANY ($4)
   AND a.chosen_at <= $5::timestamptz - $6::interval AND a.context IS NOT NULL
 ORDER BY a.chosen_at DESC, a.execution_id, a.seq
 LIMIT $7
"""


async def matured(
    conn: Connection[Record], branch: Branch, matures_after: timedelta, limit: int
) -> list[MaturedChoice]:
    """The youngest choices with a context that were made so long before the cutoff, at most `limit`."""
    return [MaturedChoice(**row) for row in await conn.fetch(_MATURED, *_of(branch), matures_after, limit)]


def _of(branch: Branch) -> tuple[object, ...]:
    return branch.project_no, branch.journey_id, branch.step_id, list(branch.goal_revisions), branch.cutoff
