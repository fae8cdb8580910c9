"""Passes over segments: durable, part by part, resumed where they stopped. What they look at stays in Postgres."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from orchestrator.temporal.segments import (
        BEGIN_ACTIVITY,
        EVALUATION_WORKFLOW,
        FINISH_ACTIVITY,
        LOOK_AGAIN_SIGNAL,
        PROJECTS_ACTIVITY,
        PROJECTS_AT_ONCE,
        SWEEP_WORKFLOW,
        SWEEPS_QUEUE,
        UNSWEPT_ACTIVITY,
        UNSWEPT_ERROR,
        WORK_ACTIVITY,
        BegunRun,
        EvaluationInput,
        RunKind,
        RunPart,
        RunQuestion,
        SweepInput,
    )

PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))

BRIEF = timedelta(seconds=30)
#: A part of a large project takes minutes, and says after each transaction that it is alive.
PART = timedelta(hours=1)
#: After a worker was killed, another goes on with its part within this.
PART_HEARTBEAT = timedelta(seconds=20)

#: Others wait while a project is swept: so long at most for each step of it, outages included.
SWEEP_PATIENCE = timedelta(minutes=10)
SWEEP_PATIENCE_FOR_PARTS = timedelta(hours=1)

#: Before this, what one workflow did for a segment stood in one history.
GOES_ON_ANEW = "evaluation-continues-as-new"


async def one_run(question: RunQuestion) -> bool:
    """Do the run that waits; False when there is none. Raises ActivityError, and only of a sweep."""
    sweep = question.kind == "sweep"
    patience = SWEEP_PATIENCE if sweep else None
    # Whatever is built meanwhile, a sweep gets its places.
    queue = SWEEPS_QUEUE if sweep else None
    begun = await workflow.execute_activity(
        BEGIN_ACTIVITY,
        question,
        task_queue=queue,
        result_type=BegunRun,
        start_to_close_timeout=BRIEF,
        schedule_to_close_timeout=patience,
        retry_policy=PATIENT,
    )
    if not begun.run_no:
        return False
    done = await asyncio.gather(
        *(
            workflow.execute_activity(
                WORK_ACTIVITY,
                RunPart(
                    project_no=question.project_no,
                    kind=question.kind,
                    segment_no=question.segment_no,
                    run_no=begun.run_no,
                    first=first,
                    last=last,
                ),
                task_queue=queue,
                summary=f"buckets {first} to {last}",
                start_to_close_timeout=PART,
                schedule_to_close_timeout=SWEEP_PATIENCE_FOR_PARTS if sweep else None,
                heartbeat_timeout=PART_HEARTBEAT,
                retry_policy=PATIENT,
            )
            for first, last in begun.parts or ()
        ),
        return_exceptions=True,
    )
    for failure in done:
        if isinstance(failure, BaseException):
            raise failure
    await workflow.execute_activity(
        FINISH_ACTIVITY,
        args=[question, begun.run_no],
        task_queue=queue,
        start_to_close_timeout=BRIEF,
        schedule_to_close_timeout=patience,
        retry_policy=PATIENT,
    )
    return True


@workflow.defn(name=EVALUATION_WORKFLOW)
class SegmentEvaluation:
    """Does the runs of one segment, or of a project's new rules, one after the other, until none waits."""

    def __init__(self) -> None:
        self._asked = 0

    @workflow.signal(name=LOOK_AGAIN_SIGNAL, description="Another run waits. Carries nothing.")
    def look_again(self) -> None:
        self._asked += 1

    @workflow.run
    async def run(self, start: EvaluationInput) -> None:
        kind: RunKind = "evaluate" if start.segment_no else "build"
        question = RunQuestion(project_no=start.project_no, kind=kind, segment_no=start.segment_no)
        while True:
            seen = self._asked
            did_one = await one_run(question)
            if not did_one and self._asked == seen:
                return
            # The one that goes on looks first: whoever has signalled by now is answered.
            if workflow.info().is_continue_as_new_suggested() and workflow.patched(GOES_ON_ANEW):
                workflow.continue_as_new(start)


@workflow.defn(name=SWEEP_WORKFLOW)
class SegmentSweep:
    """Holds every membership of every project against the rules, project by project.

    Goes on behind a project that cannot be swept, and fails in the end.
    """

    @workflow.run
    async def run(self, start: SweepInput) -> None:
        projects = await workflow.execute_activity(
            PROJECTS_ACTIVITY, start, result_type=list[int], start_to_close_timeout=BRIEF, retry_policy=PATIENT
        )
        unswept = start.unswept
        for project_no in projects:
            try:
                await one_run(RunQuestion(project_no=project_no, kind="sweep"))
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                # No workflow of before this was written meets a failure: what it began is tried for ever.
                unswept += 1
                await _note_unswept(project_no)
        if len(projects) == PROJECTS_AT_ONCE:
            workflow.continue_as_new(SweepInput(after=projects[-1], unswept=unswept))
        if unswept:
            raise ApplicationError(f"{unswept} projects could not be swept", type=UNSWEPT_ERROR, non_retryable=True)


async def _note_unswept(project_no: int) -> None:
    try:
        await workflow.execute_activity(
            UNSWEPT_ACTIVITY,
            project_no,
            start_to_close_timeout=BRIEF,
            schedule_to_close_timeout=SWEEP_PATIENCE,
            retry_policy=PATIENT,
        )
    except ActivityError as failure:
        if is_cancelled_exception(failure):
            raise
        workflow.logger.warning("nobody could be told of a project that was not swept")
