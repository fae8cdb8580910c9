"""Seeing to it that passes over segments are done."""

from __future__ import annotations

from orchestrator.application.errands import RegularErrands
from orchestrator.storage.segment_runs import Untold
from orchestrator.temporal.segments import SegmentWorkflows


class SegmentErrands(RegularErrands[Untold, SegmentWorkflows]):
    async def _see_to(self, request: Untold) -> None:
        await self._workflows.see_to(request.project_no, request.segment_no or 0)
