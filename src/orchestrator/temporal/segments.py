"""Passes over segments, as Temporal knows them: names, inputs, the schedule, and how one is started."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from orchestrator.temporal.regular_work import ensure_schedule

SEGMENTS_QUEUE = "segments"
#: Parts of sweeps have places of their own: nobody who asked for an evaluation waits for them.
SWEEPS_QUEUE = "segment-sweeps"

SWEEP_WORKFLOW = "SEGMENT_SWEEP"
EVALUATION_WORKFLOW = "SEGMENT_EVALUATION"
LOOK_AGAIN_SIGNAL = "look_again"

PROJECTS_ACTIVITY = "list_projects"
BEGIN_ACTIVITY = "begin_run"
WORK_ACTIVITY = "evaluate_buckets"
FINISH_ACTIVITY = "finish_run"
UNSWEPT_ACTIVITY = "note_unswept"

#: Why the workflow of a sweep fails in the end: projects that could not be swept were left out.
UNSWEPT_ERROR = "PROJECTS_NOT_SWEPT"

#: Projects that one sweep workflow takes before it goes on in a new one.
PROJECTS_AT_ONCE = 100

SCHEDULE_ID = "segment-sweep"
SWEEP_EVERY = timedelta(minutes=15)
#: A sweep that was due while Temporal was away is made up for if it was due no longer ago than this.
CATCH_UP = timedelta(minutes=15)


@dataclass
class SweepInput:
    """Sweep the projects with a number above `after`; `unswept` of those before could not be swept."""

    after: int = 0
    unswept: int = 0


@dataclass
class EvaluationInput:
    """One segment, or, `segment_no` 0, all of the project whose rules are new."""

    project_no: int
    segment_no: int = 0


#: sweep: all segments, on schedule; evaluate: one, because somebody asked; build: those whose rules are new.
RunKind = Literal["sweep", "evaluate", "build"]


@dataclass
class RunQuestion:
    """Which run? `segment_no` 0: not of one segment."""

    project_no: int
    kind: RunKind
    segment_no: int = 0


@dataclass
class BegunRun:
    """`run_no` 0: there is nothing to do."""

    run_no: int = 0
    parts: list[tuple[int, int]] | None = None


@dataclass
class RunPart:
    """Buckets `first` to `last` of a run."""

    project_no: int
    kind: RunKind
    segment_no: int
    run_no: int
    first: int
    last: int


def evaluation_id(project_no: int, segment_no: int) -> str:
    """The workflow that sees to one segment, or to the rules of a project that are new."""
    return f"segment-evaluation:{project_no}:{segment_no or 'new-rules'}"


class SegmentWorkflows:
    """Starts workflows of passes; built over a connected client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def see_to(self, project_no: int, segment_no: int) -> None:
        """Start the workflow for these runs, or make the one that is running look again. Raises RPCError."""
        await self._client.start_workflow(
            EVALUATION_WORKFLOW,
            EvaluationInput(project_no=project_no, segment_no=segment_no),
            id=evaluation_id(project_no, segment_no),
            task_queue=SEGMENTS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=LOOK_AGAIN_SIGNAL,
            static_summary="evaluate a segment" if segment_no else "evaluate segments whose rules are new",
        )

    async def ensure_schedule(self, every: timedelta = SWEEP_EVERY) -> None:
        """Have all segments swept on schedule, one sweep at a time. Raises RPCError."""
        await ensure_schedule(
            self._client, SCHEDULE_ID, SWEEP_WORKFLOW, SweepInput(),
            task_queue=SEGMENTS_QUEUE, summary="verify segments", every=every, catch_up=CATCH_UP,
        )  # fmt: skip
