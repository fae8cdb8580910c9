"""Whose turn it is at channels that have a rate.

A send that may be made, and whose channel is crowded, waits in the channel's queue and its execution sleeps; nothing
works on it, and nothing is taken for it. Whoever decides looks at the queue without holding it, so that nobody waits
for anybody: what counts is the turn that is taken right before the call (application/sending.py). `LettingOut` tells as
many to go on as will find one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from orchestrator.application.canceling import BACKLOG
from orchestrator.application.transactions import Transactions
from orchestrator.domain.channel_rate import BEHIND, USUAL, ChannelRate
from orchestrator.domain.execution import Decision, Run, Sleep
from orchestrator.domain.gates import CHANNEL_RATE
from orchestrator.domain.journey import JourneyVersion, Send
from orchestrator.storage import channel_turns, clock, outbox
from orchestrator.storage.channel_turns import Turn, Waiting
from orchestrator.storage.executions import Standing
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.contract import channel_queue

#: Who was let out and has not taken a turn by then is let out once more. He was told, and comes: this is for safety.
PATIENCE = timedelta(minutes=1)

#: As many seconds of turns may have been let out and not taken at most: whatever stands still, no herd comes of it.
OUT_AT_MOST = 10

#: How long a try waits for its turn at most: as long as those who come at the right time are early.
LONGEST_WAIT = timedelta(seconds=0.5)

#: Let out at once by channels that have no rate any more.
PAGE = 200


def crowded_for(rates: Collection[ChannelRate], turns: Mapping[str, Turn], standing: Standing) -> frozenset[str]:
    """The channels at which it is not this execution's turn, for the send that it stands on, if it does."""
    return frozenset(rate.channel for rate in rates if not _may_go(rate, turns.get(rate.channel), standing))


def crowded_behind(rates: Collection[ChannelRate], turns: Mapping[str, Turn], now: datetime) -> frozenset[str]:
    """The same for whatever it will send behind that."""
    return Rooms(rates, turns, now).crowded


def _may_go(rate: ChannelRate, turn: Turn | None, standing: Standing) -> bool:
    if turn is None:  # nobody has ever used it
        return True
    if turn.waits:
        return turn.let_out
    is_told = standing.effect.get("queue") == channel_queue(rate.channel)
    if not standing.parked and (is_told or standing.send is not None):
        return True  # it takes its turn, or a turn again, when it comes to the call
    return _room(rate, turn, standing.now) > 0


def waits_for(decision: Decision, version: JourneyVersion) -> str | None:
    """The channel in whose queue an execution is that was told this; None: in none."""
    effect = decision.effect
    if not isinstance(effect, Sleep) or effect.parked != CHANNEL_RATE:
        return None
    return version.pinned[_send_on(decision, version).communication_id].channel


def waiting(decision: Decision, version: JourneyVersion, execution_id: UUID, *, behind: bool = False) -> Waiting:
    """The place in the queue of an execution that was told to wait for its channel's turn."""
    channel = version.pinned[_send_on(decision, version).communication_id].channel
    return Waiting(channel=channel, rank=BEHIND if behind else USUAL, execution_id=execution_id)


def _send_on(decision: Decision, version: JourneyVersion) -> Send:
    step = version.definition.steps[decision.position.step_id]
    assert isinstance(step, Send), "only sends wait for channels"
    return step


class Rooms:
    """How much room the channels of a project have for those whom one transaction lets in."""

    def __init__(self, rates: Collection[ChannelRate], turns: Mapping[str, Turn], now: datetime) -> None:
        self._left = {rate.channel: _room(rate, turns.get(rate.channel), now) for rate in rates}

    @property
    def crowded(self) -> frozenset[str]:
        return frozenset(channel for channel, left in self._left.items() if left <= 0)

    def use(self, decision: Decision) -> None:
        """This one has been told to send, or something else."""
        if isinstance(decision.effect, Run) and decision.effect.channel in self._left:
            self._left[decision.effect.channel] -= 1


def _room(rate: ChannelRate, turn: Turn | None, now: datetime) -> int:
    if turn is None:
        return rate.burst
    return 0 if turn.waited_for else rate.room(turn.used_to, turn.closed_until, now)


class LettingOut:
    """Tells those to go on who wait for channels, as many as will find a turn. Processes share them by locks."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def waited_for(self) -> list[tuple[int, str]]:
        """The channels (project, name) for which sends wait."""
        async with self._transactions.read(None) as conn:
            return await channel_turns.waited_for(conn)

    async def step(self, project_no: int, channel: str) -> list[Notice]:
        """Those of one channel who may go on now, as Temporal is to be told; none where somebody else is at it.

        So many are let out that each finds its turn when it comes to the call, as long as that usually takes. Those on
        the way count, so that no more are let out than take turns. Who takes four times as long is not waited for: he
        is with a worker that has died, or comes late, and others use his turn.

        So nobody is held up by what others have to be told: of a channel that has a rate, no more is ever to be told
        than may be out. One that has none any more waits while there is much.
        """
        async with self._transactions.write(None) as conn:
            gate = await channel_turns.hold(conn, project_no, channel)
            if gate is None:
                return []
            room = PAGE
            if gate.rate is None:
                if await outbox.is_backlog(conn, "poke", BACKLOG):
                    return []
            else:
                ahead = gate.rate.room(gate.used_to, gate.closed_until, gate.now, within=gate.lead)
                most = gate.rate.burst + math.ceil(gate.rate.per_second * OUT_AT_MOST)
                room = min(PAGE, ahead - gate.on_the_way, most - gate.out)
            if room <= 0:
                return []
            told = await channel_turns.let_out(
                conn, project_no, channel, room, gate.now, PATIENCE, for_good=gate.rate is None
            )
            return await outbox.insert_pokes(conn, told, await clock.now(conn))
