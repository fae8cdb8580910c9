"""Does the pages of jobs that enroll whole crowds, and tells Temporal whom they let in, behind everybody else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from orchestrator.application.enrollment_pages import UNTOLD, EnrollmentPages
from orchestrator.application.relay import Relay
from orchestrator.storage.outbox import Notice
from workers.looks import keep_looking
from workers.metrics import Metrics
from workers.stopping import Stopping
from workers.telling import Telling

#: Seconds between two looks while there is no job, or none that is due.
LOOK_EVERY = 0.5

#: While something waits in the inbox, one page in so many seconds.
YIELD = 0.5

#: Calls to Temporal under way for a job: at most, and at least. One with a rate has no more than it needs if each takes
#: CALL seconds, so that those of a page do not come all at once.
MOST, LEAST = 32, 2
CALL = 0.04

#: Pages of a job without a rate that are being told while the next one is worked on. One with a rate has none: where
#: Temporal is slow, pages would be decided faster than they are told, and what is not told in time a sweeper takes up.
AHEAD = 1


class EnrollmentJobRunner:
    """Runs in every worker process until `stop`; processes share the jobs by locks."""

    def __init__(self, pages: EnrollmentPages, relay: Callable[[int], Relay], metrics: Metrics) -> None:
        """`relay` makes one that has so many calls to Temporal under way."""
        self._pages = pages
        self._relay = relay
        self._metrics = metrics
        self._stopping = Stopping()
        self._telling = Telling()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Returns after `stop`, when what is being told has been."""
        await keep_looking(self._work_once, self._stopping, failed="enrollment jobs wait", again=LOOK_EVERY)
        await self._telling.all_end()

    async def _work_once(self) -> float:
        """One page, if it is a job's turn; returns how long to wait before the next, in seconds."""
        others = await self._pages.others()
        if others is None:
            return LOOK_EVERY
        if others.untold >= UNTOLD:
            # Temporal is away, or slow: what is decided has to be told first.
            return YIELD
        step = await self._pages.step()
        if not step.worked:
            return LOOK_EVERY if step.due_in is None else min(LOOK_EVERY, step.due_in.total_seconds())
        if step.told:
            self._metrics.enrolled_by_jobs.add(len(step.told))
            await self._tell_beside(step.told, step.rate)
        return YIELD if others.waiting else 0.0

    async def _tell_beside(self, told: Sequence[Notice], rate: int | None) -> None:
        """Begin to tell these, and wait until no more pages are being told than may be."""
        at_once = MOST if rate is None else min(MOST, max(LEAST, math.ceil(rate * CALL)))
        self._telling.begin(self._relay(at_once), told)
        while len(self._telling) > (AHEAD if rate is None else 0):
            await self._telling.one_ends()
