"""Waking running executions, so that they see what became of their journey, which is asked for at once and done in
pages, or of what they wait for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

# One that is under way goes on: whoever was told already has been told to end.
_REQUEST = """
INSERT INTO journey_closings (project_no, journey_id, requested_at) VALUES ($1, $2, $3)
ON CONFLICT (project_no, journey_id, parked) DO NOTHING
"""


async def request(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> None:
    """Have every execution that runs now look again, soon after the commit. The journey takes nobody in any more."""
    await conn.execute(_REQUEST, project_no, journey_id, now)


# One that is under way begins again: whoever it has passed may be parked again since.
_REQUEST_PARKED = """
INSERT INTO journey_closings (project_no, journey_id, parked, requested_at)
SELECT $1, journey_id, $3, $4 FROM journeys WHERE project_no = $1 AND ($2 = '' OR journey_id = $2)
ON CONFLICT (project_no, journey_id, parked) DO UPDATE
   SET bucket = DEFAULT, subject_no = DEFAULT, execution_id = DEFAULT, requested_at = excluded.requested_at
"""


async def request_parked(
    conn: Connection[Record], project_no: int, journey_id: str, parked: str, now: datetime
) -> None:
    """Have every execution look again, soon after the commit, that is parked for this reason: of one journey, or, with
    an empty `journey_id`, of all.
    """
    await conn.execute(_REQUEST_PARKED, project_no, journey_id, parked, now)


_NEXT = """
SELECT project_no, journey_id, parked, bucket, subject_no, execution_id
  FROM journey_closings ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

# Leased until now: no process has promised to deliver them, so the next sweep does.
_POKE = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, $6, $6
  FROM executions
 WHERE project_no = $1 AND journey_id = $2 AND outcome IS NULL
   AND (bucket, subject_no, execution_id) > ($3::smallint, $4::bigint, $5::uuid)
   AND ($8 = '' OR parked = $8)
 ORDER BY bucket, subject_no, execution_id
 LIMIT $7
RETURNING bucket, subject_no, execution_id
"""

_GO_ON = """
UPDATE journey_closings SET bucket = $3, subject_no = $4, execution_id = $5
 WHERE project_no = $1 AND journey_id = $2 AND parked = $6
"""

_DONE = "DELETE FROM journey_closings WHERE project_no = $1 AND journey_id = $2 AND parked = $3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Poked:
    """How many executions of a journey are to be poked by one page, and whether that was the last."""

    count: int
    last: bool


async def poke_some(conn: Connection[Record], now: datetime, limit: int) -> Poked | None:
    """The next `limit` executions of the journey that has waited longest; None when there is none, or somebody else is
    at it. What is done is remembered with it: a page that is cut off is begun again, and no other.
    """
    closing = await conn.fetchrow(_NEXT)
    if closing is None:
        return None
    project_no, journey_id, parked = closing["project_no"], closing["journey_id"], closing["parked"]
    rows = await conn.fetch(
        _POKE,
        project_no, journey_id, closing["bucket"], closing["subject_no"], closing["execution_id"], now, limit, parked,
    )  # fmt: skip
    last = len(rows) < limit
    if last:
        await conn.execute(_DONE, project_no, journey_id, parked)
    else:
        place = max((row["bucket"], row["subject_no"], row["execution_id"]) for row in rows)
        await conn.execute(_GO_ON, project_no, journey_id, *place, parked)
    return Poked(count=len(rows), last=last)


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


_POKE_ONE = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
VALUES ($1, $2, $3, $4, 'poke', $5, $6, $6)
"""


async def poke(conn: Connection[Record], key: SubjectKey, execution_id: UUID, workflow_id: str, now: datetime) -> None:
    """Have one execution look again. The caller holds its subject's row."""
    await conn.execute(_POKE_ONE, key.project_no, key.bucket, key.subject_no, execution_id, workflow_id, now)


_POKE_SUBJECTS = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, $4, $4
  FROM executions
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND outcome IS NULL
"""


async def poke_subjects(conn: Connection[Record], key: SubjectKey, now: datetime) -> None:
    """Have the executions of this subject that run look again. The caller holds the subject's row."""
    await conn.execute(_POKE_SUBJECTS, key.project_no, key.bucket, key.subject_no, now)
