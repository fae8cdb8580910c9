"""Passes over segments: which there are, and their parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from temporalio import activity

from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.temporal.segments import (
    BEGIN_ACTIVITY,
    FINISH_ACTIVITY,
    PROJECTS_ACTIVITY,
    PROJECTS_AT_ONCE,
    WORK_ACTIVITY,
    BegunRun,
    RunPart,
    RunQuestion,
    SweepInput,
)
from workers.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentActivities:
    """Each may be repeated after any failure: what a part has done is in the database."""

    runs: SegmentRuns
    metrics: Metrics

    @activity.defn(name=PROJECTS_ACTIVITY)
    async def list_projects(self, sweep: SweepInput) -> list[int]:
        return await self.runs.projects(sweep.after, PROJECTS_AT_ONCE)

    @activity.defn(name=BEGIN_ACTIVITY)
    async def begin_run(self, question: RunQuestion) -> BegunRun:
        begun = await self.runs.begin(question.project_no, question.kind, question.segment_no or None)
        return BegunRun(run_no=begun.run_no, parts=list(begun.parts)) if begun else BegunRun()

    @activity.defn(name=WORK_ACTIVITY)
    async def evaluate_buckets(self, part: RunPart) -> None:
        await self.runs.work(
            part.project_no,
            part.run_no,
            part.kind,
            part.segment_no or None,
            (part.first, part.last),
            activity.heartbeat,
        )

    @activity.defn(name=FINISH_ACTIVITY)
    async def finish_run(self, run: RunQuestion, run_no: int) -> None:
        finished = await self.runs.finish(run.project_no, run_no)
        if finished is None:
            return
        self.metrics.evaluated_subjects.add(finished.subjects, {"kind": run.kind})
        if finished.drift:
            self.metrics.drift.add(finished.drift)
            logger.error("memberships were wrong and have been put right", extra={"count": finished.drift})
