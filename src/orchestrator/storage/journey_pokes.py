"""Waking running executions, so that they see what became of their journey, or of what they wait for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from asyncpg import Connection, Record

# Leased until now: no process has promised to deliver them, so the next sweep does.
_POKE = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, $3, $3
  FROM executions
 WHERE project_no = $1 AND journey_id = $2 AND outcome IS NULL
"""


async def poke_running(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> int:
    """Have every running execution look again; returns how many there are."""
    done: str = await conn.execute(_POKE, project_no, journey_id, now)
    return int(done.rsplit(" ", 1)[-1])


_POKE_PARKED = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
SELECT e.project_no, e.bucket, e.subject_no, e.execution_id, 'poke', e.workflow_id, $4, $4
  FROM journey_versions AS v
  JOIN executions AS e ON e.project_no = v.project_no AND e.journey_id = v.journey_id AND e.version = v.version
 WHERE v.project_no = $1 AND e.outcome IS NULL AND e.parked = $3
   AND EXISTS (SELECT FROM jsonb_path_query(v.definition, '$.** ? (@.kind == "in_cohort").cohortId') AS named (id)
                WHERE named.id #>> '{}' = ANY ($2::text[]))
"""


async def poke_parked(
    conn: Connection[Record], project_no: int, cohort_ids: Iterable[str], parked: str, now: datetime
) -> None:
    """Have executions look again that are `parked` on versions whose predicates name one of these segments."""
    await conn.execute(_POKE_PARKED, project_no, list(cohort_ids), parked, now)
