"""The ledger of what webhook steps asked. Callers hold the subject's row lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: What a call may be: under way, or settled in one of two ways.
CALLING, ANSWERED, FAILED = "calling", "answered", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as the ledger has it. `state` is calling | answered | failed; no try is to be made before `retry_at`.

    `in_doubt`: the receiver may have taken it, although nobody knows that it has.
    """

    state: str
    attempt: int
    in_doubt: bool
    reason: str | None
    reserved_at: datetime
    retry_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    key: SubjectKey
    execution_id: UUID
    seq: int
    step_id: str
    journey_id: str
    version: int
    reserved_at: datetime


_RESERVE = """
INSERT INTO webhook_calls (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version, state,
                           attempt, reserved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'calling', 1, $9)
ON CONFLICT (project_no, bucket, subject_no, execution_id, seq)
DO UPDATE SET attempt = webhook_calls.attempt + 1, in_doubt = true WHERE webhook_calls.state = 'calling'
RETURNING attempt
"""


async def reserve(conn: Connection[Record], r: Reservation) -> int:
    """Take the call for one more try and return that try's number: only it may settle the row."""
    attempt: int | None = await conn.fetchval(
        _RESERVE,
        r.key.project_no, r.key.bucket, r.key.subject_no, r.execution_id, r.seq, r.step_id, r.journey_id, r.version,
        r.reserved_at,
    )  # fmt: skip
    assert attempt is not None, "the caller looked under the lock: a settled call is not reserved again"
    return attempt


_SETTLE = """
UPDATE webhook_calls SET state = $6, reason = $7, status = $8, answer = $9, settled_at = $10, in_doubt = $12
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND seq = $5
   AND state = 'calling' AND attempt = $11
RETURNING true
"""


async def settle(
    conn: Connection[Record],
    key: SubjectKey,
    execution_id: UUID,
    seq: int,
    *,
    attempt: int,
    state: str,
    reason: str | None,
    status: int | None,
    answer: dict[str, Any] | None,
    in_doubt: bool,
    now: datetime,
) -> bool:
    """Record what came of a try; False when a later try has taken over, or the row is settled already."""
    settled: bool | None = await conn.fetchval(
        _SETTLE,
        key.project_no, key.bucket, key.subject_no, execution_id, seq, state, reason, status, answer, now, attempt,
        in_doubt,
    )  # fmt: skip
    return bool(settled)


_NOTE = """
UPDATE webhook_calls SET reason = $7, status = $8, retry_at = $9, in_doubt = $10
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND seq = $5
   AND state = 'calling' AND attempt = $6
"""


async def note(
    conn: Connection[Record],
    key: SubjectKey,
    execution_id: UUID,
    seq: int,
    *,
    attempt: int,
    reason: str,
    status: int | None,
    in_doubt: bool,
    retry_at: datetime,
) -> None:
    """Why this try came to nothing, and when another one may follow."""
    await conn.execute(
        _NOTE, key.project_no, key.bucket, key.subject_no, execution_id, seq, attempt, reason, status, retry_at,
        in_doubt,
    )  # fmt: skip


# Those whose step has the same name ever after stay in their page.
_RENAME = """
UPDATE webhook_calls SET known_as = m.to_step_id
  FROM unnest($5::text[], $6::text[]) AS m (from_step_id, to_step_id)
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4
   AND answer IS NOT NULL AND coalesce(known_as, step_id) = m.from_step_id
"""


#: Of an execution ($1 to $4), what `$steps.` reads. Where two steps have become one, the later answer is its.
ANSWERS = """
SELECT jsonb_object_agg(coalesce(a.known_as, a.step_id), a.answer ORDER BY a.seq) FROM webhook_calls AS a
 WHERE (a.project_no, a.bucket, a.subject_no, a.execution_id) = ($1, $2, $3, $4) AND a.answer IS NOT NULL
"""


async def rename(
    conn: Connection[Record], key: SubjectKey, execution_id: UUID, mapping: Mapping[str, str]
) -> dict[str, Any]:
    """What was answered to these steps is from now on read by the names of what they have become: what is so read."""
    whose = key.project_no, key.bucket, key.subject_no, execution_id
    await conn.execute(_RENAME, *whose, list(mapping), list(mapping.values()))
    answers: dict[str, Any] | None = await conn.fetchval(ANSWERS, *whose)
    return answers or {}
