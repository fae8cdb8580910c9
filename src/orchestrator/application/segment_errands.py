"""Seeing to it that passes over segments are done: the schedule is there, and Temporal knows of every run."""

from __future__ import annotations

from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.temporal.segments import SegmentWorkflows


class SegmentErrands:
    """Run again and again by every worker; each time does what is left to do. Raises RPCError when Temporal is away."""

    def __init__(self, runs: SegmentRuns, workflows: SegmentWorkflows) -> None:
        self._runs = runs
        self._workflows = workflows
        self._scheduled = False

    async def run(self) -> None:
        """Tell Temporal of runs that were asked for."""
        for run in await self._runs.claim_untold():
            await self._workflows.see_to(run.project_no, run.segment_no or 0)

    async def ensure_schedule(self) -> None:
        """Have sweeps scheduled; asks Temporal once in the life of a process."""
        if not self._scheduled:
            await self._workflows.ensure_schedule()
            self._scheduled = True
