"""The ledger of sends. Callers hold the subject's row lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.gates import Counted, FrequencyCap
from orchestrator.domain.scope import SubjectKey

#: What a send may be: under way, or settled in one of three ways.
DISPATCHING, SENT, FAILED, UNKNOWN = "dispatching", "sent", "failed", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A send as the ledger has it. `state` is dispatching | sent | failed | unknown; no try is to be made before
    `retry_at`.

    `in_doubt`: the last try may have reached the provider without our knowing.
    """

    state: str
    attempt: int
    in_doubt: bool
    reason: str | None
    content_revision: int
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


_FULL = """
SELECT asked.no AS asked, cap.no AS cap, s.reserved_at
  FROM unnest($2::smallint[], $3::bigint[], $4::uuid[], $5::int[])
       WITH ORDINALITY AS asked (bucket, subject_no, execution_id, seq, no)
 CROSS JOIN unnest($6::text[], $7::text[], $8::int[], $9::interval[])
       WITH ORDINALITY AS cap (channel, category, most, span, no)
 CROSS JOIN LATERAL (
       SELECT reserved_at FROM sends
        WHERE project_no = $1 AND bucket = asked.bucket AND subject_no = asked.subject_no
          AND state <> 'failed' AND reserved_at > $10::timestamptz - cap.span
          AND (cap.channel = '*' OR channel = cap.channel) AND (cap.category = '*' OR category = cap.category)
          AND (execution_id, seq) IS DISTINCT FROM (asked.execution_id, asked.seq)
        ORDER BY reserved_at DESC
       OFFSET cap.most - 1 LIMIT 1) AS s
"""

#: A subject, and the send that is about to be made, which does not count against itself.
Asked = tuple[SubjectKey, UUID | None, int | None]


async def full(
    conn: Connection[Record], project_no: int, asked: Sequence[Asked], caps: Sequence[FrequencyCap], now: datetime
) -> list[dict[FrequencyCap, datetime]]:
    """Of each, the caps that let nothing more through at `now`, and from when on they do. The subjects are held."""
    found: list[dict[FrequencyCap, datetime]] = [{} for _ in asked]
    if not caps or not asked:
        return found
    rows = await conn.fetch(
        _FULL,
        project_no,
        [key.bucket for key, _, _ in asked],
        [key.subject_no for key, _, _ in asked],
        [execution_id for _, execution_id, _ in asked],
        [seq for _, _, seq in asked],
        [cap.channel for cap in caps],
        [cap.category for cap in caps],
        [cap.limit for cap in caps],
        [cap.window for cap in caps],
        now,
    )
    for row in rows:
        cap = caps[row["cap"] - 1]
        found[row["asked"] - 1][cap] = row["reserved_at"] + cap.window
    return found


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


_NOTE = """
UPDATE sends SET in_doubt = $7, retry_at = $8
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND seq = $5
   AND state = 'dispatching' AND attempt = $6
"""


async def note(
    conn: Connection[Record],
    key: SubjectKey,
    execution_id: UUID,
    seq: int,
    *,
    attempt: int,
    in_doubt: bool,
    retry_at: datetime | None,
) -> None:
    """This try came to nothing; when another one may follow (None: at any time)."""
    await conn.execute(
        _NOTE, key.project_no, key.bucket, key.subject_no, execution_id, seq, attempt, in_doubt, retry_at
    )


_COUNTED = """
SELECT channel, category, reserved_at AS at FROM sends
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND state <> 'failed' AND reserved_at > $4
"""


async def counted(conn: Connection[Record], key: SubjectKey, since: datetime) -> list[Counted]:
    """A subject's messages that count for caps, later than `since`: as many as may have been sent."""
    rows = await conn.fetch(_COUNTED, key.project_no, key.bucket, key.subject_no, since)
    return [Counted(**row) for row in rows]
