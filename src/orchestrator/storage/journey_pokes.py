"""Waking running executions, so that they see what became of their journey, which is asked for at once and done in
pages, or of what they wait for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.storage.poke_pages import page_of

# One that is under way goes on: whoever was told already has been told to end.
_REQUEST = """
INSERT INTO journey_closings (project_no, journey_id, requested_at, moved_at) VALUES ($1, $2, $3, $3)
ON CONFLICT (project_no, journey_id, parked) DO NOTHING
"""


async def request(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> None:
    """Have every execution that runs now look again, soon after the commit. The journey takes nobody in any more."""
    await conn.execute(_REQUEST, project_no, journey_id, now)


# One that is under way begins again: whoever it has passed may be parked again since.
_REQUEST_OF = """
INSERT INTO journey_closings (project_no, journey_id, parked, requested_at, moved_at)
{journeys} ORDER BY journey_id
ON CONFLICT (project_no, journey_id, parked) DO UPDATE
   SET bucket = DEFAULT, subject_no = DEFAULT, execution_id = DEFAULT, requested_at = excluded.requested_at
"""

_REQUEST_PARKED = _REQUEST_OF.format(
    journeys="""
SELECT $1::int, journey_id, $3::text, $4::timestamptz, $4::timestamptz
  FROM journeys WHERE project_no = $1 AND ($2 = '' OR journey_id = $2)
"""
)


async def request_parked(
    conn: Connection[Record], project_no: int, journey_id: str, parked: str, now: datetime
) -> None:
    """Have every execution look again, soon after the commit, that is parked for this reason: of one journey, or, with
    an empty `journey_id`, of all.
    """
    await conn.execute(_REQUEST_PARKED, project_no, journey_id, parked, now)


_REQUEST_NAMING = _REQUEST_OF.format(
    journeys="""
SELECT DISTINCT $1::int, v.journey_id, $3::text, $4::timestamptz, $4::timestamptz
  FROM journey_versions AS v
 WHERE v.project_no = $1
   AND EXISTS (SELECT FROM jsonb_path_query(v.definition, '$.** ? (@.kind == "in_cohort").cohortId') AS named (id)
                WHERE named.id #>> '{}' = ANY ($2::text[]))
"""
)


async def request_naming(
    conn: Connection[Record], project_no: int, cohort_ids: Iterable[str], parked: str, now: datetime
) -> None:
    """The same for all journeys of which a version's predicates name one of these segments."""
    await conn.execute(_REQUEST_NAMING, project_no, list(cohort_ids), parked, now)


_NEXT = """
SELECT project_no, journey_id, parked, bucket, subject_no, execution_id
  FROM journey_closings ORDER BY moved_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

_POKE = page_of("journey_id = $2", meant="$8 = '' OR parked = $8")

_GO_ON = """
UPDATE journey_closings SET bucket = $4, subject_no = $5, execution_id = $6, moved_at = $7
 WHERE project_no = $1 AND journey_id = $2 AND parked = $3
"""

_DONE = "DELETE FROM journey_closings WHERE project_no = $1 AND journey_id = $2 AND parked = $3"


async def poke_some(conn: Connection[Record], now: datetime, limit: int) -> bool:
    """Look at the next `limit` (≥ 1) executions of the journey whose last page is the longest ago, and poke those that
    are meant; False when there is none, or somebody else is at it. What is done is remembered with it: a page that is
    cut off is begun again, and no other.
    """
    closing = await conn.fetchrow(_NEXT)
    if closing is None:
        return False
    project_no, journey_id, parked = closing["project_no"], closing["journey_id"], closing["parked"]
    last = await conn.fetchrow(
        _POKE,
        project_no, journey_id, closing["bucket"], closing["subject_no"], closing["execution_id"], now, limit, parked,
    )  # fmt: skip
    if last is None:
        await conn.execute(_DONE, project_no, journey_id, parked)
    else:
        await conn.execute(_GO_ON, project_no, journey_id, parked, *last, now)
    return True


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
