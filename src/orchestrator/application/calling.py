"""Calls of webhook steps, in two transactions as sends have them: reserve, then settle, with the call in between.

A call is made at least once and under one key, however often it is tried. What comes of it, its answer, the visit and
what is decided next are written together; when deciding fails, what came of it is written alone. A call is no message:
no gate and no pause stands against it, only the end of its execution does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application.advance import Ready, answer_try, called, conclude, decide, ready, tell_sleeper
from orchestrator.application.changing import source_of
from orchestrator.application.sending import TooEarly, idempotency_key
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.execution import Run
from orchestrator.domain.fillings import Source
from orchestrator.domain.journey import Webhook
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import clock, subjects, webhook_calls
from orchestrator.storage.webhook_calls import CALLING, Reservation
from orchestrator.temporal.contract import Effect, Question, effect_from

#: Between two tries: after the first one, and at most, unless the receiver asks for more.
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A call that this try may make; `attempt` fences it. `source` is what it is filled from.

    `reserved_at` is when the first try took it; `now` is this one's time. `in_doubt`: an earlier try may have been
    taken.
    """

    key: SubjectKey
    execution_id: UUID
    seq: int
    attempt: int
    in_doubt: bool
    step: Webhook
    source: Source
    reserved_at: datetime
    now: datetime

    @property
    def idempotency_key(self) -> str:
        return idempotency_key(self.execution_id, self.seq)

    def pause(self, asked: timedelta | None) -> timedelta | None:
        """How long to wait for the next try, at least as long as the receiver has asked for; None: it is too late for
        another one.
        """
        backing_off = min(SHORTEST_PAUSE * 2 ** min(self.attempt - 1, 20), LONGEST_PAUSE)
        pause = max(backing_off, asked or timedelta(0))
        return pause if self.now + pause < self.reserved_at + self.step.retry_for else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came of a call: answered | failed. `reason` is a small enum; `answer` None: none was given that is kept.

    `in_doubt`: it failed, and may have been taken all the same.
    """

    state: str
    reason: str | None = None
    status: int | None = None
    answer: dict[str, Any] | None = None
    in_doubt: bool = False


class Calling:
    """Reserves and settles calls."""

    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions

    async def reserve(self, question: Question) -> Reserved | Effect:
        """Take the call the execution stands on; an Effect when there is nothing (more) to call. Raises TooEarly."""
        async with self._transactions.write(None) as conn:
            found = await ready(conn, self._versions, question)
            if isinstance(found, Effect):
                return found
            earlier = found.standing.call
            if not _leaves_it(found):
                decision = decide(found)
                step = found.prepared.version.definition.steps[found.standing.position.step_id]
                if isinstance(decision.effect, Run) and decision.still_waiting and isinstance(step, Webhook):
                    if earlier is not None and earlier.retry_at is not None and found.now < earlier.retry_at:
                        raise TooEarly(earlier.reason or "", earlier.retry_at - found.now)
                    return await self._reserved(conn, found, question.seq, step)
            return await answer_try(conn, self._versions, found)

    async def _reserved(self, conn: Connection[Record], found: Ready, seq: int, step: Webhook) -> Reserved:
        standing, earlier = found.standing, found.standing.call
        reservation = Reservation(
            key=found.key,
            execution_id=standing.execution_id,
            seq=seq,
            step_id=step.id,
            journey_id=standing.journey_id,
            version=standing.version,
            reserved_at=found.now,
        )
        return Reserved(
            key=found.key,
            execution_id=standing.execution_id,
            seq=seq,
            attempt=await webhook_calls.reserve(conn, reservation),
            in_doubt=earlier is not None and earlier.in_doubt,
            step=step,
            source=source_of(found),
            reserved_at=earlier.reserved_at if earlier is not None else found.now,
            now=found.now,
        )

    async def note(
        self, reserved: Reserved, reason: str, status: int | None, pause: timedelta, *, in_doubt: bool
    ) -> None:
        """Why this try came to nothing, and for how long there is to be none. `in_doubt`: it, or an earlier one, may
        have been taken.
        """
        async with self._transactions.write(None) as conn:
            key = await subjects.lock_survivor(conn, reserved.key)
            if key is not None:
                await webhook_calls.note(
                    conn, key, reserved.execution_id, reserved.seq, attempt=reserved.attempt, reason=reason,
                    status=status, in_doubt=in_doubt, retry_at=await clock.now(conn) + pause,
                )  # fmt: skip

    async def settle(self, question: Question, reserved: Reserved, receipt: Receipt) -> Effect:
        """Record what came of the call, and what comes next."""
        try:
            async with self._transactions.write(None) as conn:
                found = await ready(conn, self._versions, question)
                if isinstance(found, Effect):
                    await self._settle_survivor(conn, reserved, receipt, await clock.now(conn))
                    return found
                return await self._settled(conn, found, reserved, receipt)
        except Exception:
            # Deciding failed, or the connection. What the receiver has taken must be known all the same.
            async with self._transactions.write(None) as conn:
                await self._settle_survivor(conn, reserved, receipt, None)
            raise

    async def _settled(self, conn: Connection[Record], found: Ready, reserved: Reserved, receipt: Receipt) -> Effect:
        standing = found.standing
        if await self._settle(conn, found.key, reserved, receipt, found.now):
            knowing = _with_answer(found, reserved.step, receipt)
            effect = await conclude(conn, self._versions, knowing, called(receipt.state, receipt.reason))
            await tell_sleeper(conn, found, effect)
            return effect
        assert standing.call is not None, "rows of the ledger go only with their subject, whose lock is held"
        if standing.call.state == CALLING:  # a later try has taken over: it will say what comes next
            return effect_from(standing.effect)
        return await conclude(conn, self._versions, found, called(standing.call.state, standing.call.reason))

    async def _settle_survivor(
        self, conn: Connection[Record], reserved: Reserved, receipt: Receipt, now: datetime | None
    ) -> None:
        """Settle, whoever the subject has been merged into since; `now` None: read behind the lock."""
        key = await subjects.lock_survivor(conn, reserved.key)
        if key is None:  # the ledger outlives a subject that was deleted, and does not say who it was
            receipt = replace(receipt, answer=None)
        await self._settle(conn, key or reserved.key, reserved, receipt, now or await clock.now(conn))

    async def _settle(
        self, conn: Connection[Record], key: SubjectKey, reserved: Reserved, receipt: Receipt, now: datetime
    ) -> bool:
        return await webhook_calls.settle(
            conn, key, reserved.execution_id, reserved.seq,
            attempt=reserved.attempt, state=receipt.state, reason=receipt.reason, status=receipt.status,
            answer=receipt.answer, in_doubt=receipt.in_doubt, now=now,
        )  # fmt: skip


def _leaves_it(found: Ready) -> bool:
    """Whether no try is to be made: it is settled, or another version makes it, which nobody has asked yet."""
    call = found.standing.call
    if call is None or (call.state == CALLING and not call.in_doubt):
        return found.goes_over
    return call.state != CALLING


def _with_answer(found: Ready, step: Webhook, receipt: Receipt) -> Ready:
    """The same, knowing the answer."""
    if receipt.answer is None:
        return found
    steps = {**found.standing.steps, step.id: receipt.answer}
    knowing = replace(found.known, subject=replace(found.known.subject, steps=steps))
    return replace(found, known=knowing, standing=replace(found.standing, steps=steps))
