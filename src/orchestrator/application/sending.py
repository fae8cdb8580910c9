"""A send in two transactions: reserve, then settle. Between them a channel talks to its provider, outside any
transaction.

Reserve asks the core once more: only if it still says "send" is the send taken, under the lock under which opt-outs are
written, and the one that is waited for before a pause is answered. So no send begins after an opt-out or a pause was
acknowledged. Where the core has parked the execution meanwhile, it is held; where it says anything else, withdrawn
(advance.py). A provider that has asked for time is not called before it is over, whoever pokes the execution meanwhile.
Settle records what came of it, decides what is next in the same transaction, and falls back to recording alone, so that
a failure of the deciding cannot undo "sent".
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application.advance import Ready, answer_try, conclude, decide, done, ready, tell_sleeper
from orchestrator.application.auto_pauses import AutoPauses
from orchestrator.application.channel_turns import LONGEST_WAIT
from orchestrator.application.contents import Contents
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.auto_pause import Tally
from orchestrator.domain.channel_rate import ChannelRate
from orchestrator.domain.execution import Run
from orchestrator.domain.journey import Send as SendStep
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import channel_turns, clock, communications, send_tallies, sends, subjects
from orchestrator.storage.sends import DISPATCHING, FAILED, Reservation, Send
from orchestrator.temporal.contract import Effect, Question, effect_from

logger = logging.getLogger(__name__)

#: Why a send is not tried: its provider wants to be left alone.
UNAVAILABLE = "unavailable"


class TooEarly(Exception):
    """Who was asked last is not to be asked again yet: whoever pokes an execution has it look, and not call.

    `reason` is why the last try was in vain.
    """

    def __init__(self, reason: str, rest: timedelta) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rest = rest


def idempotency_key(execution_id: UUID, seq: int) -> str:
    """The provider's key for one pass over a send step: the same on every try."""
    return hashlib.sha256(f"{execution_id}/{seq}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A send that this try may make. `attempt` fences it: a later try takes over by counting on.

    `content` is what to send (domain/communication.py), `attributes`, `entry` and `steps` (what webhooks answered) what
    its templates may read.
    `reserved_at` is when the first try took it; `now` is this one's time. `in_doubt`: an earlier try may have reached
    the provider. `rate`: the channel's, if it has one; then each try has its turn before it calls the provider.
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
    steps: dict[str, Any]
    reserved_at: datetime
    now: datetime
    rate: ChannelRate | None = None

    @property
    def idempotency_key(self) -> str:
        return idempotency_key(self.execution_id, self.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came of a try: sent | failed | unknown. `reason` is a small enum, never the provider's words."""

    state: str
    reason: str | None = None
    provider_id: str | None = None


class Sending:
    """Reserves and settles sends."""

    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions
        self._contents = Contents()
        self._auto_pauses = AutoPauses(transactions, versions)

    async def reserve(self, question: Question) -> Reserved | Effect:
        """Take the send the execution stands on; an Effect when there is nothing (more) to send. Raises TooEarly."""
        async with self._transactions.write(None) as conn:
            found = await ready(conn, self._versions, question, to_send=True)
            if isinstance(found, Effect):
                return found
            earlier = found.standing.send
            # Nothing is begun that another version would begin otherwise.
            if not found.goes_over if earlier is None else earlier.state == DISPATCHING:
                decision = decide(found)
                if isinstance(decision.effect, Run) and decision.still_waiting:
                    if earlier is not None and earlier.retry_at is not None and found.now < earlier.retry_at:
                        raise TooEarly(UNAVAILABLE, earlier.retry_at - found.now)
                    return await self._reserved(conn, found, question.seq, earlier)
            return await answer_try(conn, self._versions, found)

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
            steps=standing.steps,
            reserved_at=earlier.reserved_at if earlier else found.now,
            now=found.now,
            rate=standing.settings.channel_rate(pinned.channel),
        )

    async def take_turn(self, reserved: Reserved) -> timedelta | None:
        """How long to wait before the provider is called, half a second at most; None: the channel is crowded, and the
        send has to `give_way`.
        """
        if reserved.rate is None:
            return timedelta(0)
        async with self._transactions.write(None) as conn:
            return await channel_turns.take(
                conn, reserved.key.project_no, reserved.rate, reserved.execution_id, LONGEST_WAIT
            )

    async def give_way(self, question: Question, reserved: Reserved) -> Effect:
        """The provider was not called, for it is not this send's turn: it waits for that, and is decided about anew."""
        async with self._transactions.write(None) as conn:
            found = await ready(conn, self._versions, question)
            if isinstance(found, Effect):
                return found
            begun = found.standing.send
            if begun is None or begun.state != DISPATCHING or begun.attempt != reserved.attempt:
                return effect_from(found.standing.effect)  # a later try has taken over: it will say what comes next
            if not reserved.in_doubt:
                await sends.note(
                    conn, found.key, reserved.execution_id, reserved.seq,
                    attempt=reserved.attempt, in_doubt=False, retry_at=None,
                )  # fmt: skip
            await channel_turns.turn_away(conn, found.key.project_no, reserved.execution_id)
            limits = replace(found.known.limits, crowded=found.known.limits.crowded | {reserved.channel})
            found = replace(
                found,
                known=replace(found.known, limits=limits),
                standing=replace(found.standing, send=replace(begun, in_doubt=reserved.in_doubt)),
            )
            return await answer_try(conn, self._versions, found)

    async def close_channel(self, reserved: Reserved, pause: timedelta) -> None:
        """The provider wants nothing for so long, of nobody. Without a rate, a channel has no queue to wait in."""
        if reserved.rate is not None:
            async with self._transactions.write(None) as conn:
                await channel_turns.close(conn, reserved.key.project_no, reserved.channel, pause)

    async def note(self, reserved: Reserved, pause: timedelta | None, *, in_doubt: bool) -> None:
        """This try came to nothing, and for how long the provider wants none, if it has said so. `in_doubt`: it, or an
        earlier one, may have been taken.
        """
        async with self._transactions.write(None) as conn:
            key = await subjects.lock_survivor(conn, reserved.key)
            if key is not None:
                await sends.note(
                    conn, key, reserved.execution_id, reserved.seq, attempt=reserved.attempt, in_doubt=in_doubt,
                    retry_at=await clock.now(conn) + pause if pause is not None else None,
                )  # fmt: skip

    async def settle(self, question: Question, reserved: Reserved, receipt: Receipt) -> Effect:
        """Record what came of the try, and what comes next; a failure too many pauses the journey's sends."""
        try:
            async with self._transactions.write(None) as conn:
                effect = await self._settle_and_decide(conn, question, reserved, receipt)
                watched = await self._watched(conn, reserved)
        except Exception:
            # Deciding failed, or the connection. What the provider has accepted must be known all the same.
            async with self._transactions.write(None) as conn:
                if await self._settle_survivor(conn, reserved, receipt, None):
                    await self._count_if_possible(conn, reserved, receipt)
            raise
        if watched and receipt.state == FAILED:
            await self._auto_pauses.look(reserved.key.project_no, [reserved.journey_id])
        return effect

    async def _settle_and_decide(
        self, conn: Connection[Record], question: Question, reserved: Reserved, receipt: Receipt
    ) -> Effect:
        found = await ready(conn, self._versions, question)
        if isinstance(found, Effect):
            if await self._settle_survivor(conn, reserved, receipt, await clock.now(conn)):
                await self._count(conn, reserved, receipt)
            return found
        if await self._settle(conn, found.key, reserved, receipt, found.now):
            effect = await conclude(conn, self._versions, found, done(receipt.state, receipt.reason))
            await tell_sleeper(conn, found, effect)
            await self._count(conn, reserved, receipt)
            return effect
        settled = found.standing.send
        assert settled is not None, "rows of the ledger go only with their subject, whose lock is held"
        if settled.state == DISPATCHING:  # a later try has taken over: it will say what comes next
            return effect_from(found.standing.effect)
        return await conclude(conn, self._versions, found, done(settled.state, settled.reason))

    async def _watched(self, conn: Connection[Record], reserved: Reserved) -> bool:
        return await self._auto_pauses.watches(conn, reserved.key.project_no, reserved.journey_id, reserved.version)

    async def _count(self, conn: Connection[Record], reserved: Reserved, receipt: Receipt) -> None:
        """Of journeys that pause their sends by themselves: one more send, failed or not."""
        if await self._watched(conn, reserved):
            tally = Tally(sends=1, failed=int(receipt.state == FAILED))
            slot = send_tallies.slot(reserved.journey_id, reserved.key.bucket)
            await send_tallies.add(conn, reserved.key.project_no, await clock.now(conn), {slot: tally})

    async def _count_if_possible(self, conn: Connection[Record], reserved: Reserved, receipt: Receipt) -> None:
        """`_count`, which undoes nothing else when it fails."""
        try:
            async with conn.transaction():
                await self._count(conn, reserved, receipt)
        except Exception as error:
            logger.warning("a send is not counted", extra={"error": type(error).__name__}, exc_info=error)

    async def _settle_survivor(
        self, conn: Connection[Record], reserved: Reserved, receipt: Receipt, now: datetime | None
    ) -> bool:
        """Settle, whoever the subject has been merged into since it was reserved; `now` None: read behind the lock."""
        key = await subjects.lock_survivor(conn, reserved.key)
        if key is None:  # the ledger outlives a subject that was deleted, and does not say who it was
            receipt = replace(receipt, provider_id=None)
        return await self._settle(conn, key or reserved.key, reserved, receipt, now or await clock.now(conn))

    async def _settle(
        self, conn: Connection[Record], key: SubjectKey, reserved: Reserved, receipt: Receipt, now: datetime
    ) -> bool:
        return await sends.settle(
            conn, key, reserved.execution_id, reserved.seq,
            attempt=reserved.attempt, state=receipt.state, reason=receipt.reason,
            provider_id=receipt.provider_id, now=now,
        )  # fmt: skip
