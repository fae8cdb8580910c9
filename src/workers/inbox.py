"""The inbox consumer: woken by a notification, it works until nothing is left, and looks by itself once a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from orchestrator.application.inbox import Inbox
from orchestrator.application.inbox_rounds import Round, Rounds
from orchestrator.application.relay import Relay
from orchestrator.storage import inbox_entries, listening
from orchestrator.storage.outbox import Notice
from workers.looks import tell
from workers.metrics import Metrics
from workers.telling import Telling

#: How often a consumer looks that nobody has woken, in seconds. A lost notification costs this much.
LOOK_EVERY = 1.0

#: How long to leave subjects alone that somebody else is working on.
TAKEN_PAUSE = 0.02

#: How often entries that failed are tried again.
RETRY_EVERY = 5.0

#: Starts and pokes under way at which the consumer waits for Temporal: what is not told in 5 s, a sweeper takes up.
TOLD_AT_ONCE = 200


class InboxConsumer:
    """Works through the inbox until `stop`. Any number of them, in any number of processes, share the work."""

    def __init__(self, dsn: str, inbox: Inbox, relay: Relay, metrics: Metrics) -> None:
        self._dsn = dsn
        self._inbox = inbox
        self._rounds = Rounds(inbox, self._tell)
        self._relay = relay
        self._metrics = metrics
        self._rung = asyncio.Event()
        self._stopping = asyncio.Event()
        self._telling, self._telling_behind = Telling(), Telling()

    def stop(self) -> None:
        """Finish what is under way and return from `run`."""
        self._stopping.set()
        self._rung.set()

    async def run(self) -> None:
        """Returns after `stop`. Outlives whatever the database does; what it raises is a fault of its own."""
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self._listen()), group.create_task(self._retry_failed())]
            try:
                await self._consume()
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(self._telling.all_end(), self._telling_behind.all_end())

    async def _listen(self) -> None:
        await listening.listen(self._dsn, inbox_entries.CHANNEL, self._rung.set)

    async def _consume(self) -> None:
        while not self._stopping.is_set():
            self._rung.clear()
            try:
                while not self._stopping.is_set() and await self._work_once():
                    pass
            except Exception as error:
                tell("the inbox cannot be worked through for now", error)
            await self._wait_for_ring(LOOK_EVERY)

    async def _wait_for_ring(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), seconds)

    async def _work_once(self) -> bool:
        """One round; False when there was nothing to do, or nothing that could be done."""
        keys = await self._inbox.waiting()
        if not keys:
            return False
        done = await self._rounds.go(keys)
        self._count(done)
        if not done.subjects and not done.failed:
            await asyncio.sleep(TAKEN_PAUSE)
            return True
        return done.subjects > 0

    def _count(self, done: Round) -> None:
        if done.subjects:
            self._metrics.inbox_subjects.add(done.subjects)
        if done.failed:
            self._metrics.inbox_failures.add(done.failed)

    async def _retry_failed(self) -> None:
        """Entries that failed are left out of the ordinary look, and come again here; of all processes, in one."""
        while True:
            await asyncio.sleep(RETRY_EVERY)
            try:
                if await self._inbox.failing():
                    async with self._inbox.turn() as ours:
                        if ours:
                            self._count(await self._rounds.go_singly(await self._inbox.failing()))
                            # It stays our turn: however many processes there are, they come again this often.
                            await asyncio.sleep(RETRY_EVERY)
            except Exception as error:
                tell("failed entries wait longer", error)

    async def _tell(self, told: Sequence[Notice]) -> None:
        """Tell Temporal beside the next transaction; wait when too much is being told already. What runs behind waits
        for none of that, nor does that wait for it.
        """
        self._telling_behind.begin(self._relay, [notice for notice in told if notice.behind])
        told = [notice for notice in told if not notice.behind]
        while told and self._telling.notices > TOLD_AT_ONCE:
            await self._telling.one_ends()
        self._telling.begin(self._relay, told)
