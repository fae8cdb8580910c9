"""Executions that await something of their subjects, and pokes for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaiting:
    """An open execution, and what can happen that makes it go on or leave (domain/conditions.py: topics)."""

    key: SubjectKey
    execution_id: UUID
    workflow_id: str
    awaits: frozenset[str]


# One probe for each, as in storage/subjects.py; where nobody awaits anything, of an index that is empty.
_OF_SUBJECTS = """
SELECT w.project_no, w.bucket, w.subject_no, e.execution_id, e.workflow_id, e.awaits
  FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS w (project_no, bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT execution_id, workflow_id, awaits FROM executions
        WHERE project_no = w.project_no AND bucket = w.bucket AND subject_no = w.subject_no
          AND awaits IS NOT NULL AND outcome IS NULL
       OFFSET 0) AS e
"""


async def of_subjects(conn: Connection[Record], keys: Sequence[SubjectKey]) -> list[Awaiting]:
    """Those of these subjects. While the caller holds their rows, no other comes and none of these goes on."""
    rows = await conn.fetch(
        _OF_SUBJECTS, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys]
    )
    return [
        Awaiting(
            key=SubjectKey(project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"]),
            execution_id=row["execution_id"],
            workflow_id=row["workflow_id"],
            awaits=frozenset(row["awaits"]),
        )
        for row in rows
    ]


# Leased until now: no process has promised to deliver them, so the next sweep does.
_POKE_SUBJECT = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, $2, $2
  FROM executions
 WHERE project_no = $1 AND bucket = $3 AND subject_no = $4 AND awaits IS NOT NULL AND outcome IS NULL
"""


async def poke_subject(conn: Connection[Record], key: SubjectKey, now: datetime) -> None:
    """Have all executions of this subject look again that await anything."""
    await conn.execute(_POKE_SUBJECT, key.project_no, now, key.bucket, key.subject_no)


_ANYBODY = "SELECT EXISTS (SELECT FROM executions WHERE project_no = $1 AND awaits IS NOT NULL AND outcome IS NULL)"


async def anybody(conn: Connection[Record], project_no: int) -> bool:
    """Whether any execution of the project awaits anything."""
    found: bool = await conn.fetchval(_ANYBODY, project_no)
    return found
