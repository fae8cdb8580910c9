"""A send in two transactions: reserve, then settle. Between them a channel talks to its provider, outside any
transaction.

Reserve asks the core once more: only if it still says "send" is the send taken, under the lock under which opt-outs are
written. So no send begins after an opt-out was acknowledged. Settle records what came of it, decides what is next in
the
same transaction, and falls back to recording alone, so that a failure of the deciding cannot undo "sent".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application.advance import Ready, decide, ready, record
from orchestrator.application.contents import Contents
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.execution import Decision, Done, Result, Run
from orchestrator.domain.journey import Send as SendStep
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import clock, communications, sends, subjects
from orchestrator.storage.sends import Reservation, Send
from orchestrator.temporal.contract import Effect, Question, effect_from

SENT = "sent"
FAILED = "failed"
UNKNOWN = "unknown"

#: The reason of a send that a gate stopped between two tries.
WITHDRAWN = "withdrawn"


def idempotency_key(execution_id: UUID, seq: int) -> str:
    """The provider's key for one pass over a send step: the same on every try."""
    return hashlib.sha256(f"{execution_id}/{seq}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A send that this try may make. `attempt` fences it: a later try takes over by counting on.

    `content` is what to send (domain/communication.py), `attributes` and `entry` what its templates may read.
    `reserved_at` is when the first try took it; `now` is this one's time. `in_doubt`: an earlier try may have reached
    the provider.
    """

    key: SubjectKey
    subject_id: str
    execution_id: UUID
    journey_id: str
    version: int
    step_id: str
    seq: int
    attempt: int
    in_doubt: bool
    communication_id: str
    content_revision: int
    channel: str
    content: dict[str, Any]
    attributes: dict[str, Any]
    entry: dict[str, Any]
    reserved_at: datetime
    now: datetime

    @property
    def idempotency_key(self) -> str:
        return idempotency_key(self.execution_id, self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came of a try: sent | failed | unknown. `reason` is a small enum, never the provider's words."""

    state: str
    reason: str | None = None
    provider_id: str | None = None


def done(send: Send | Receipt) -> Done:
    """What a settled send means for the step. Whether `unknown` arrived, nobody can say: the step was executed."""
    if send.state == FAILED:
        return Done(result=Result.FAILED, reason=send.reason)
    return Done(result=Result.EXECUTED, reason=UNKNOWN if send.state == UNKNOWN else None)


class Sending:
    """Reserves and settles sends."""

    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions
        self._contents = Contents()

    async def reserve(self, question: Question) -> Reserved | Effect:
        """Take the send the execution stands on; an Effect when there is nothing (more) to send."""
        async with self._transactions.write(None) as conn:
            found = await ready(conn, self._versions, question)
            if isinstance(found, Effect):
                return found
            earlier = found.standing.send
            if earlier is not None and earlier.state != "dispatching":  # settled, but not advanced from
                return await record(conn, found, decide(found, done(earlier)))
            decision = decide(found)
            if isinstance(decision.effect, Run) and decision.still_waiting:
                return await self._reserved(conn, found, question.seq, earlier)
            if earlier is None:
                return await record(conn, found, decision)
            return await self._withdraw(conn, found, question.seq, earlier, decision)

    async def _withdraw(
        self, conn: Connection[Record], found: Ready, seq: int, earlier: Send, decision: Decision
    ) -> Effect:
        """A gate has closed between two tries. What may have gone out is `unknown`; what has not, is not sent.

        Either way the step was passed, and the execution goes on, or ends, behind it.
        """
        state = UNKNOWN if earlier.in_doubt else FAILED
        await sends.settle(
            conn, found.key, found.standing.execution_id, seq,
            attempt=earlier.attempt, state=state, reason=WITHDRAWN, provider_id=None, now=found.now,
        )  # fmt: skip
        if earlier.in_doubt:
            decision = decide(found, Done(result=Result.EXECUTED, reason=UNKNOWN))
        elif not decision.visits:  # it is to end where it stands
            decision = decide(found, Done(result=Result.SKIPPED, reason=WITHDRAWN))
        return await record(conn, found, decision)

    async def _reserved(self, conn: Connection[Record], found: Ready, seq: int, earlier: Send | None) -> Reserved:
        standing, version = found.standing, found.prepared.version
        step = version.definition.steps[standing.position.step_id]
        assert isinstance(step, SendStep), "the core says Run only on a send step"
        pinned = version.pinned[step.communication_id]
        if earlier is not None:  # a repeat says what the first try said
            revision = earlier.content_revision
        elif version.definition.follow_live_communications:
            revision = await communications.newest_like(conn, found.key.project_no, step.communication_id, pinned)
        else:
            revision = pinned.content_revision
        attempt = await sends.reserve(
            conn,
            Reservation(
                key=found.key,
                execution_id=standing.execution_id,
                seq=seq,
                step_id=step.id,
                journey_id=standing.journey_id,
                version=standing.version,
                communication_id=step.communication_id,
                content_revision=revision,
                channel=pinned.channel,
                category=pinned.category,
                reserved_at=found.now,
            ),
        )
        return Reserved(
            key=found.key,
            subject_id=found.held.subject_id,
            execution_id=standing.execution_id,
            journey_id=standing.journey_id,
            version=standing.version,
            step_id=step.id,
            seq=seq,
            attempt=attempt,
            in_doubt=earlier is not None and earlier.in_doubt,
            communication_id=step.communication_id,
            content_revision=revision,
            channel=pinned.channel,
            content=await self._contents.get(conn, found.key.project_no, step.communication_id, revision),
            attributes=found.held.attributes,
            entry=standing.entry,
            reserved_at=earlier.reserved_at if earlier else found.now,
            now=found.now,
        )

    async def release(self, reserved: Reserved) -> None:
        """The provider certainly did not take it, and is to be asked again later."""
        async with self._transactions.write(None) as conn:
            key = await subjects.lock_survivor(conn, reserved.key)
            if key is not None:
                await sends.release(conn, key, reserved.execution_id, reserved.seq, attempt=reserved.attempt)

    async def settle(self, question: Question, reserved: Reserved, receipt: Receipt) -> Effect:
        """Record what came of the try, and what comes next."""
        try:
            async with self._transactions.write(None) as conn:
                found = await ready(conn, self._versions, question)
                if isinstance(found, Effect):
                    await self._settle_survivor(conn, reserved, receipt, await clock.now(conn))
                    return found
                if await self._settle(conn, found.key, reserved, receipt, found.now):
                    return await record(conn, found, decide(found, done(receipt)))
                settled = found.standing.send
                assert settled is not None, "rows of the ledger go only with their subject, whose lock is held"
                if settled.state == "dispatching":  # a later try has taken over: it will say what comes next
                    return effect_from(found.standing.effect)
                return await record(conn, found, decide(found, done(settled)))
        except Exception:
            # Deciding failed, or the connection. What the provider has accepted must be known all the same.
            async with self._transactions.write(None) as conn:
                await self._settle_survivor(conn, reserved, receipt, None)
            raise

    async def _settle_survivor(
        self, conn: Connection[Record], reserved: Reserved, receipt: Receipt, now: datetime | None
    ) -> None:
        """Settle, whoever the subject has been merged into since it was reserved; `now` None: read behind the lock."""
        key = await subjects.lock_survivor(conn, reserved.key)
        if key is None:  # the ledger outlives a subject that was deleted, and does not say who it was
            receipt = replace(receipt, provider_id=None)
        await self._settle(conn, key or reserved.key, reserved, receipt, now or await clock.now(conn))

    async def _settle(
        self, conn: Connection[Record], key: SubjectKey, reserved: Reserved, receipt: Receipt, now: datetime
    ) -> bool:
        return await sends.settle(
            conn, key, reserved.execution_id, reserved.seq,
            attempt=reserved.attempt, state=receipt.state, reason=receipt.reason,
            provider_id=receipt.provider_id, now=now,
        )  # fmt: skip
