"""Seeing to it that passes over segments are done: the schedule is there, and Temporal knows of every run."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import timedelta

from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.temporal.segments import SegmentWorkflows

#: Whether sweeps are scheduled is looked at again after this.
SCHEDULE_LOOKED_AT = timedelta(minutes=5)


class SegmentErrands:
    """Run again and again by every worker; each time does what is left to do. Raises RPCError when Temporal is away."""

    def __init__(
        self, runs: SegmentRuns, workflows: SegmentWorkflows, *, look_again: timedelta = SCHEDULE_LOOKED_AT
    ) -> None:
        self._runs = runs
        self._workflows = workflows
        self._look_again = look_again.total_seconds()
        self._scheduled_until = -math.inf

    async def run(self) -> None:
        """Tell Temporal of runs that were asked for; of those that it could not be told of, the next look does."""
        claimed = await self._runs.claim_untold()
        told = await asyncio.gather(
            *(self._workflows.see_to(run.project_no, run.segment_no or 0) for run in claimed), return_exceptions=True
        )
        failures = {run: failure for run, failure in zip(claimed, told, strict=True) if failure is not None}
        if failures:
            await self._runs.not_told(failures)
            raise next(iter(failures.values()))

    async def ensure_schedule(self) -> None:
        """Have sweeps scheduled as they should be; asks Temporal every few minutes, since people may change it."""
        if time.monotonic() >= self._scheduled_until:
            await self._workflows.ensure_schedule()
            self._scheduled_until = time.monotonic() + self._look_again
