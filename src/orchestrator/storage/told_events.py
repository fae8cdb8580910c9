"""Whoever let events happen by steps of their executions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """An execution, and the `seq` at which it told an event. `hops` and `started_at`: domain/entry.py, hops_from."""

    execution_id: UUID
    seq: int
    hops: int
    started_at: datetime


# A step is left by the decision after the one that came to it.
_TELLERS = """
SELECT v.execution_id, v.seq - 1 AS seq, n.hops, n.enrolled_at AS started_at
  FROM visits AS v
  JOIN enrollments AS n
    ON n.project_no = $1 AND n.bucket = $2 AND n.subject_no = $3 AND n.enrollment_id = v.execution_id
 WHERE v.project_no = $1 AND v.bucket = $2 AND v.subject_no = $3 AND v.step_kind = 'emit_event'
   AND v.result = 'executed' AND v.left_at >= $4
"""


async def tellers(conn: Connection[Record], key: SubjectKey, since: datetime) -> Sequence[Teller]:
    """Of all events that executions of this subject have told since."""
    rows = await conn.fetch(_TELLERS, key.project_no, key.bucket, key.subject_no, since)
    return [Teller(**row) for row in rows]
