"""Passes over segments: which there are, and their parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from asyncpg import LockNotAvailableError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.storage.outages import is_nobodys_fault
from orchestrator.temporal.segments import (
    BEGIN_ACTIVITY,
    FINISH_ACTIVITY,
    PROJECTS_ACTIVITY,
    PROJECTS_AT_ONCE,
    UNSWEPT_ACTIVITY,
    WORK_ACTIVITY,
    BegunRun,
    RunKind,
    RunPart,
    RunQuestion,
    SweepInput,
)
from workers.errors import as_failure
from workers.metrics import Metrics

logger = logging.getLogger(__name__)

#: A sweep leaves out a project that failed so often, for a reason that is its own.
SWEEP_TRIES = 3

#: Seconds between two signs of life.
BEAT = 5.0


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
        with _others_wait(question.kind):
            begun = await self.runs.begin(question.project_no, question.kind, question.segment_no or None)
        return BegunRun(run_no=begun.run_no, parts=list(begun.parts)) if begun else BegunRun()

    @activity.defn(name=WORK_ACTIVITY)
    async def evaluate_buckets(self, part: RunPart) -> None:
        with _others_wait(part.kind), _beating():
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
        with _others_wait(run.kind):
            finished = await self.runs.finish(run.project_no, run_no)
        if finished is None:
            return
        # Counted again if this is repeated: rather twice than never.
        self.metrics.evaluated_subjects.add(finished.subjects, {"kind": run.kind})
        if finished.drift:
            self.metrics.drift.add(finished.drift)
            logger.error("memberships were wrong and have been put right", extra={"count": finished.drift})

    @activity.defn(name=UNSWEPT_ACTIVITY)
    async def note_unswept(self, project_no: int) -> None:
        """A sweep has left out this project."""
        self.metrics.unswept.add(1)
        project_id = await self.runs.note_unswept(project_no)
        logger.error("a project could not be swept and was left out", extra={"project_id": project_id})


@contextmanager
def _beating() -> Iterator[None]:
    """Say that the worker is alive while a statement takes longer than usual. It has a timeout of its own."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT)
            activity.heartbeat()

    beats = asyncio.create_task(beat())
    try:
        yield
    finally:
        beats.cancel()


@contextmanager
def _others_wait(kind: RunKind) -> Iterator[None]:
    """Of a sweep, for which other projects wait, let a failure be final that is no outage and has been met again."""
    try:
        yield
    except Exception as error:
        # A lock that is held for so long counts as an outage elsewhere; here others would wait for it again and again.
        lasting = not is_nobodys_fault(error) or isinstance(error, LockNotAvailableError)
        if kind == "sweep" and lasting and activity.info().attempt >= SWEEP_TRIES:
            logger.exception("a step of a sweep failed too often")
            raise ApplicationError(type(error).__name__, non_retryable=True) from None
        # What an error says may hold values, and would stand in the history.
        raise as_failure(error) from None
