"""Executions as people look at them: pages of them, and one with all it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.execution import Outcome, Result
from orchestrator.storage import subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An execution as its row has it. `outcome` None: it runs."""

    execution_id: UUID
    workflow_id: str
    subject_id: str
    journey_id: str
    version: int
    outcome: Outcome | None
    reason: str | None
    step_id: str
    since: datetime
    wakes_at: datetime | None
    parked: str | None
    started_at: datetime
    ended_at: datetime | None
    # why it was told to end, if it was and has not yet
    canceling: str | None
    # the version it came in by; the one it goes over to at its next look, if it does
    entry_version: int
    carry_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One passing over one step, by the decision that left it."""

    seq: int
    step_id: str
    step_kind: str
    result: Result
    reason: str | None
    entered_at: datetime
    left_at: datetime
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One pass over a send step that got past its gates. `state` is dispatching | sent | failed | unknown."""

    seq: int
    step_id: str
    communication_id: str
    content_revision: int
    channel: str
    category: str
    state: str
    attempt: int
    reason: str | None
    provider_id: str | None
    reserved_at: datetime
    settled_at: datetime | None
    # What the provider has reported since, and when it was true first.
    delivered_at: datetime | None
    soft_bounced_at: datetime | None
    bounced_at: datetime | None
    complained_at: datetime | None
    opened_at: datetime | None
    clicked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One pass over a webhook step. `state` is calling | answered | failed."""

    seq: int
    step_id: str
    state: str
    attempt: int
    status: int | None
    reason: str | None
    has_answer: bool
    reserved_at: datetime
    settled_at: datetime | None


_SELECT = """
SELECT e.execution_id, e.workflow_id, s.subject_id, e.journey_id, e.version, e.outcome, e.reason, e.step_id, e.since,
       e.wakes_at, e.parked, e.started_at, e.ended_at,
       CASE WHEN e.outcome IS NULL THEN e.cancel_reason END AS canceling,
       coalesce(n.version, e.version) AS entry_version, e.carry_version
  FROM executions AS e
  JOIN subjects AS s ON s.project_no = e.project_no AND s.bucket = e.bucket AND s.subject_no = e.subject_no
  LEFT JOIN enrollments AS n
    ON n.project_no = e.project_no AND n.bucket = e.bucket AND n.subject_no = e.subject_no
   AND n.enrollment_id = e.execution_id
"""

_AFTER = """
   AND ($2::timestamptz IS NULL OR e.started_at <= $2 AND (e.started_at < $2 OR e.execution_id > $3))
"""

_OF_JOURNEY = f"""
{_SELECT}
 WHERE e.project_no = $1 {_AFTER} AND e.journey_id = $5
 ORDER BY e.started_at DESC, e.execution_id
 LIMIT $4
"""

_OF_SUBJECT = f"""
{_SELECT}
 WHERE e.project_no = $1 {_AFTER} AND s.bucket = $5 AND s.subject_no = $6 AND ($7::text IS NULL OR e.journey_id = $7)
 ORDER BY e.started_at DESC, e.execution_id
 LIMIT $4
"""


async def page(
    conn: Connection[Record],
    project_no: int,
    *,
    journey_id: str | None,
    subject_id: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Shown]:
    """Executions of a journey, of a subject, or of one in the other, newest first: those after (started_at, id)."""
    started_at, execution_id = after or (None, None)
    if subject_id is not None:
        key = (await subjects.find_keys(conn, project_no, [subject_id])).get(subject_id)
        if key is None:
            return []
        rows = await conn.fetch(
            _OF_SUBJECT, project_no, started_at, execution_id, limit, key.bucket, key.subject_no, journey_id
        )
    else:
        assert journey_id is not None, "a list is of a journey, of a subject, or of both"
        rows = await conn.fetch(_OF_JOURNEY, project_no, started_at, execution_id, limit, journey_id)
    return [_shown(row) for row in rows]


_BY_ID = f"{_SELECT} WHERE e.project_no = $1 AND e.execution_id = ANY ($2::uuid[])"


async def by_id(conn: Connection[Record], project_no: int, execution_ids: Sequence[UUID]) -> dict[UUID, Shown]:
    """Those of these executions that exist."""
    rows = await conn.fetch(_BY_ID, project_no, list(execution_ids))
    return {row["execution_id"]: _shown(row) for row in rows}


# The ledgers are keyed by subject first.
_OF_EXECUTION = """
  FROM executions AS e
  JOIN {ledger} AS l
    ON l.project_no = e.project_no AND l.bucket = e.bucket AND l.subject_no = e.subject_no
   AND l.execution_id = e.execution_id
 WHERE e.project_no = $1 AND e.execution_id = $2
"""

_VISITS = f"""
SELECT l.seq, l.step_id, l.step_kind, l.result, l.reason, l.entered_at, l.left_at, l.version
{_OF_EXECUTION.format(ledger="visits")}
 ORDER BY l.seq, l.place
"""


async def visits(conn: Connection[Record], project_no: int, execution_id: UUID) -> list[Passed]:
    """What an execution passed, in order."""
    rows = await conn.fetch(_VISITS, project_no, execution_id)
    return [Passed(**{**row, "result": Result(row["result"])}) for row in rows]


_SENDS = f"""
SELECT l.seq, l.step_id, l.communication_id, l.content_revision, l.channel, l.category, l.state, l.attempt, l.reason,
       l.provider_id, l.reserved_at, l.settled_at, l.delivered_at, l.soft_bounced_at, l.bounced_at, l.complained_at,
       l.opened_at, l.clicked_at
{_OF_EXECUTION.format(ledger="sends")}
 ORDER BY l.seq
"""


async def sends(conn: Connection[Record], project_no: int, execution_id: UUID) -> list[Sent]:
    """What an execution sent or tried to send, in order."""
    return [Sent(**row) for row in await conn.fetch(_SENDS, project_no, execution_id)]


_CALLS = f"""
SELECT l.seq, l.step_id, l.state, l.attempt, l.status, l.reason, l.answer IS NOT NULL AS has_answer, l.reserved_at,
       l.settled_at
{_OF_EXECUTION.format(ledger="webhook_calls")}
 ORDER BY l.seq
"""


async def webhook_calls(conn: Connection[Record], project_no: int, execution_id: UUID) -> list[Called]:
    """The webhooks that an execution called, in order."""
    return [Called(**row) for row in await conn.fetch(_CALLS, project_no, execution_id)]


def _shown(row: Record) -> Shown:
    return Shown(**{**row, "outcome": Outcome(row["outcome"]) if row["outcome"] else None})
