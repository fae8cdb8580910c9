"""What nobody waits for: outbox entries left behind, executions ended by their journey, by somebody or in Temporal,
those that await what changed for all, go over to another version or do not move, entries that were held, and refused
ones to be decided on again, tests of communications, events of before somebody asked, rows that have had their time or
whose subject is gone, seals of the audit log."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from orchestrator.application.audit_sealing import AuditSealing
from orchestrator.application.canceling import Cancellations
from orchestrator.application.carrying import Carries
from orchestrator.application.closings import Closings
from orchestrator.application.derived_events import Backfill
from orchestrator.application.entry_replay_pages import EntryReplayPages
from orchestrator.application.erasure_errands import ErasureErrands
from orchestrator.application.held_entries import HeldEntries
from orchestrator.application.journey_schedules import JourneyScheduleErrands
from orchestrator.application.policy_errands import PolicyErrands
from orchestrator.application.reconciliation import Reconciliation
from orchestrator.application.relay import Relay
from orchestrator.application.remains import Remains
from orchestrator.application.segment_errands import SegmentErrands
from orchestrator.application.topic_pokes import TopicPokes
from orchestrator.application.upkeep import Upkeep
from orchestrator.application.watchdog import Watchdog
from workers.looks import keep_looking
from workers.metrics import Metrics
from workers.sent_tests import SentTestSender
from workers.stopping import Stopping

logger = logging.getLogger(__name__)

#: Seconds between two looks, each.
OUTBOX_EVERY = 1.0
RECONCILE_EVERY = 5.0
COUNT_EVERY = 1.0
RUNS_EVERY = 1.0
RELEASE_EVERY = 1.0
SCHEDULE_EVERY = 30.0
WATCH_EVERY = 20.0
SEAL_EVERY = 1.0
ANCHOR_EVERY = 30.0
UPKEEP_EVERY = 3600.0


class Sweeper:
    """Runs beside the consumer in every worker process, until `stop`; processes share the work by leases and locks."""

    def __init__(
        self,
        relay: Relay,
        closings: Closings,
        topic_pokes: TopicPokes,
        cancellations: Cancellations,
        carries: Carries,
        replays: EntryReplayPages,
        sent_tests: SentTestSender,
        watchdog: Watchdog,
        reconciliation: Reconciliation,
        upkeep: Upkeep,
        remains: Remains,
        backfill: Backfill,
        held: HeldEntries,
        schedules: JourneyScheduleErrands,
        segments: SegmentErrands,
        policies: PolicyErrands,
        audit: AuditSealing,
        erasures: ErasureErrands,
        metrics: Metrics,
    ) -> None:
        self._relay = relay
        self._closings = closings
        self._topic_pokes = topic_pokes
        self._cancellations = cancellations
        self._carries = carries
        self._replays = replays
        self._sent_tests = sent_tests
        self._watchdog = watchdog
        self._reconciliation = reconciliation
        self._upkeep = upkeep
        self._remains = remains
        self._backfill = backfill
        self._held = held
        self._schedules = schedules
        self._segments = segments
        self._policies = policies
        self._audit = audit
        self._erasures = erasures
        self._metrics = metrics
        self._stopping = Stopping()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        await asyncio.gather(
            self._every(OUTBOX_EVERY, self._sweep),
            self._every(OUTBOX_EVERY, self._close),
            self._every(OUTBOX_EVERY, self._poke),
            self._every(OUTBOX_EVERY, self._cancel),
            self._every(OUTBOX_EVERY, self._replay),
            self._every(OUTBOX_EVERY, self._test),
            self._every(RELEASE_EVERY, self._release),
            self._every(OUTBOX_EVERY, self._carry),
            self._every(WATCH_EVERY, self._watch, at_once=True),
            self._every(RECONCILE_EVERY, self._reconcile),
            self._every(UPKEEP_EVERY, self._tidy),
            self._every(OUTBOX_EVERY, self._remove),
            self._every(COUNT_EVERY, self._count),
            self._every(SEAL_EVERY, self._seal),
            self._every(ANCHOR_EVERY, self._anchor),
            self._every(RUNS_EVERY, self._segments.run),
            self._every(RUNS_EVERY, self._policies.run),
            self._every(RUNS_EVERY, self._erasures.run),
            self._every(RUNS_EVERY, self._erasures.write_down),
            self._every(RUNS_EVERY, self._schedules.run),
            self._every(SCHEDULE_EVERY, self._segments.ensure_schedule, at_once=True),
            self._every(SCHEDULE_EVERY, self._policies.ensure_schedule, at_once=True),
        )

    async def _every(self, seconds: float, look: Callable[[], Awaitable[object]], *, at_once: bool = False) -> None:
        # Not all processes at once, unless the first time matters.
        first = 0.0 if at_once else seconds * random.random()

        async def sweep() -> float:
            await look()
            return seconds

        await keep_looking(
            sweep, self._stopping, failed="a sweep failed, the next one tries again", again=seconds, first=first
        )

    async def _sweep(self) -> None:
        swept = await self._relay.sweep()
        self._metrics.swept.add(swept.taken)
        # Where nothing could be told, Temporal is away, and asking it about the rest would be in vain.
        while swept.told and not self._stopping.is_set():
            swept = await self._relay.sweep()
            self._metrics.swept.add(swept.taken)

    async def _close(self) -> None:
        while not self._stopping.is_set() and await self._closings.step():
            pass

    async def _poke(self) -> None:
        """Those who await what changed for all."""
        while not self._stopping.is_set() and await self._topic_pokes.step():
            pass

    async def _cancel(self) -> None:
        while not self._stopping.is_set() and await self._cancellations.step():
            pass

    async def _replay(self) -> None:
        """Each page is told before the next one begins, so that whoever is in a hurry comes between."""
        while not self._stopping.is_set() and (told := await self._replays.step()) is not None:
            await self._relay.tell(told)

    async def _test(self) -> None:
        while not self._stopping.is_set() and await self._sent_tests.step():
            pass

    async def _release(self) -> None:
        """What was held while its journey was paused."""
        while not self._stopping.is_set() and await self._held.step():
            pass

    async def _carry(self) -> None:
        while not self._stopping.is_set() and await self._carries.step():
            pass

    async def _watch(self) -> None:
        self._metrics.stuck(await self._watchdog.look())
        self._metrics.auto_paused(await self._watchdog.auto_paused())
        self._metrics.waiting(await self._watchdog.sends_waiting())
        self._metrics.audit_unsealed(await self._audit.count_unsealed())
        backlog = await self._watchdog.backlog()
        self._metrics.backlog(backlog.oldest, backlog.set_aside)

    async def _count(self) -> None:
        """Events of before somebody asked about their kind."""
        while not self._stopping.is_set() and await self._backfill.step() is not None:
            pass

    async def _seal(self) -> None:
        """An anchor that is due by the number of entries does not wait for its own look."""
        if sealed := await self._audit.seal(lambda: not self._stopping.is_set()):
            self._metrics.audit_sealed.add(sealed)
            await self._anchor()

    async def _anchor(self) -> None:
        while not self._stopping.is_set() and (told := await self._audit.anchor()):
            self._metrics.audit_anchors.add(told)

    async def _tidy(self) -> None:
        await self._upkeep.run(lambda: not self._stopping.is_set())

    async def _remove(self) -> None:
        """What is left of subjects that were deleted."""
        while not self._stopping.is_set() and await self._remains.step():
            pass

    async def _reconcile(self) -> None:
        if closed := await self._reconciliation.take_turn():
            self._metrics.reconciled.add(closed)
            logger.warning("closed executions that were ended in temporal", extra={"count": closed})
