"""Counts over the ledgers: sums over the rows themselves, so that no number is kept beside what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCounts:
    """What executions did at one step, over all versions or by one. `active` ones stand on it.

    `step_kind` is empty where none has passed it.
    """

    step_id: str
    step_kind: str = ""
    executed: int = 0
    skipped: int = 0
    failed: int = 0
    active: int = 0


_STEPS = """
WITH passed AS (
    SELECT step_id, max(step_kind) AS step_kind,
           count(*) FILTER (WHERE result = 'executed') AS executed,
           count(*) FILTER (WHERE result = 'skipped') AS skipped,
           count(*) FILTER (WHERE result = 'failed') AS failed
      FROM visits
     WHERE project_no = $1 AND journey_id = $2 AND ($3::int IS NULL OR version = $3)
     GROUP BY step_id
), standing AS (
    SELECT step_id, count(*) AS active
      FROM executions
     WHERE project_no = $1 AND journey_id = $2 AND outcome IS NULL
       AND ($3::int IS NULL OR version = $3)
     GROUP BY step_id
)
SELECT step_id, coalesce(step_kind, '') AS step_kind, coalesce(executed, 0) AS executed,
       coalesce(skipped, 0) AS skipped, coalesce(failed, 0) AS failed, coalesce(active, 0) AS active
  FROM passed FULL JOIN standing USING (step_id)
 ORDER BY step_id
"""


async def steps(
    conn: Connection[Record], project_no: int, journey_id: str, version: int | None = None
) -> list[StepCounts]:
    """The steps anybody has come to, by id; by one version, or by all."""
    return [StepCounts(**row) for row in await conn.fetch(_STEPS, project_no, journey_id, version)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Admissions and what became of them. `refused` counts entries by reason."""

    enrolled: int
    held_out: int
    active: int
    by_outcome: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)


# One statement, so that all numbers are of one snapshot.
_TOTALS = """
SELECT 'admitted' AS kind, CASE WHEN held_out_by IS NULL THEN 'exposed' ELSE 'held_out' END AS name, count(*) AS total
  FROM enrollments
 WHERE project_no = $1 AND journey_id = $2
 GROUP BY 2
UNION ALL
SELECT 'execution', coalesce(outcome, ''), count(*)
  FROM executions
 WHERE project_no = $1 AND journey_id = $2
 GROUP BY 2
UNION ALL
SELECT 'refused', reason, sum(total)::bigint
  FROM refusal_counts
 WHERE project_no = $1 AND journey_id = $2
 GROUP BY 2
"""


async def totals(conn: Connection[Record], project_no: int, journey_id: str) -> Totals:
    counted: dict[str, dict[str, int]] = {"admitted": {}, "execution": {}, "refused": {}}
    for row in await conn.fetch(_TOTALS, project_no, journey_id):
        counted[row["kind"]][row["name"]] = row["total"]
    executions = counted["execution"]
    return Totals(
        enrolled=counted["admitted"].get("exposed", 0),
        held_out=counted["admitted"].get("held_out", 0),
        active=executions.pop("", 0),
        by_outcome=executions,
        refused=counted["refused"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCounts:
    """Executions that came in by one version and travel, or have ended on, the same one or another."""

    entry_version: int
    version: int
    active: int = 0
    by_outcome: Mapping[str, int] = field(default_factory=dict)


# Only where somebody was carried over they have to be looked up in the other ledger, one by one.
_VERSIONS = """
SELECT CASE WHEN EXISTS (SELECT FROM carries WHERE project_no = $1 AND journey_id = $2)
            THEN coalesce((SELECT n.version FROM enrollments AS n
                            WHERE n.project_no = e.project_no AND n.bucket = e.bucket AND n.subject_no = e.subject_no
                              AND n.enrollment_id = e.execution_id), e.version)
            ELSE e.version END AS entry_version,
       e.version, coalesce(e.outcome, '') AS outcome, count(*) AS total
  FROM executions AS e
 WHERE e.project_no = $1 AND e.journey_id = $2
 GROUP BY 1, 2, 3
 ORDER BY 1 DESC, 2 DESC, 3
"""


async def versions(conn: Connection[Record], project_no: int, journey_id: str) -> list[VersionCounts]:
    """By which version executions came in, and which they travel; newest first."""
    counted: dict[tuple[int, int], dict[str, int]] = {}
    for row in await conn.fetch(_VERSIONS, project_no, journey_id):
        counted.setdefault((row["entry_version"], row["version"]), {})[row["outcome"]] = row["total"]
    return [
        VersionCounts(entry_version=entry, version=version, active=totals.pop("", 0), by_outcome=totals)
        for (entry, version), totals in counted.items()
    ]


_RUNNING = "SELECT count(*) FROM executions WHERE project_no = $1 AND journey_id = $2 AND outcome IS NULL"


async def running(conn: Connection[Record], project_no: int, journey_id: str) -> int:
    """How many executions of a journey have not ended."""
    count: int = await conn.fetchval(_RUNNING, project_no, journey_id)
    return count


_ANY_ENTRIES = """
SELECT EXISTS (SELECT FROM enrollments WHERE project_no = $1 AND journey_id = $2)
    OR EXISTS (SELECT FROM refusal_counts WHERE project_no = $1 AND journey_id = $2)
    OR EXISTS (SELECT FROM held_entries WHERE project_no = $1 AND journey_id = $2)
"""


async def any_entries(conn: Connection[Record], project_no: int, journey_id: str) -> bool:
    """Whether anybody has ever come into a journey of this id, or was refused, or is held."""
    found: bool = await conn.fetchval(_ANY_ENTRIES, project_no, journey_id)
    return found
