"""The ledger of sends. Callers hold the subject's row lock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

#: What a send may be: under way, or settled in one of three ways.
DISPATCHING, SENT, FAILED, UNKNOWN = "dispatching", "sent", "failed", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A send as the ledger has it. `state` is dispatching | sent | failed | unknown.

    `in_doubt`: the last try may have reached the provider without our knowing.
    """

    state: str
    attempt: int
    in_doubt: bool
    reason: str | None
    content_revision: int
    reserved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    key: SubjectKey
    execution_id: UUID
    seq: int
    step_id: str
    journey_id: str
    version: int
    communication_id: str
    content_revision: int
    channel: str
    category: str
    reserved_at: datetime


_RESERVE = """
INSERT INTO sends (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version, communication_id,
                   content_revision, channel, category, state, attempt, reserved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'dispatching', 1, $13)
ON CONFLICT (project_no, bucket, subject_no, execution_id, seq)
DO UPDATE SET attempt = sends.attempt + 1, in_doubt = true WHERE sends.state = 'dispatching'
RETURNING attempt
"""


async def reserve(conn: Connection[Record], r: Reservation) -> int:
    """Take the send for one more try and return that try's number: only it may settle the row."""
    attempt: int | None = await conn.fetchval(
        _RESERVE,
        r.key.project_no, r.key.bucket, r.key.subject_no, r.execution_id, r.seq, r.step_id, r.journey_id, r.version,
        r.communication_id, r.content_revision, r.channel, r.category, r.reserved_at,
    )  # fmt: skip
    assert attempt is not None, "the caller looked under the lock: a settled send is not reserved again"
    return attempt


_SETTLE = """
UPDATE sends SET state = $6, reason = $7, provider_id = $8, settled_at = $9, in_doubt = false
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND seq = $5
   AND state = 'dispatching' AND attempt = $10
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
    provider_id: str | None,
    now: datetime,
) -> bool:
    """Record what came of a try; False when a later try has taken over, or the row is settled already."""
    settled: bool | None = await conn.fetchval(
        _SETTLE,
        key.project_no, key.bucket, key.subject_no, execution_id, seq, state, reason, provider_id, now, attempt,
    )  # fmt: skip
    return bool(settled)


_RELEASE = """
UPDATE sends SET in_doubt = false
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND seq = $5
   AND state = 'dispatching' AND attempt = $6
"""


async def release(conn: Connection[Record], key: SubjectKey, execution_id: UUID, seq: int, *, attempt: int) -> None:
    """Note that this try certainly did not reach its goal: the next one starts from a clean slate."""
    await conn.execute(_RELEASE, key.project_no, key.bucket, key.subject_no, execution_id, seq, attempt)
