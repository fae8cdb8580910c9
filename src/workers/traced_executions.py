"""Spans of executions and of what they have done: workflows go on with the trace that has started or poked them.

An execution is at it for moments and waits for months. So it has a span for each time that it is at it, a look: from
being started or woken until it sleeps or has ended. Started or poked, it belongs to the trace of who did that; woken by
the clock, it begins one. Each that is not of the first trace has a link to that.

A workflow runs again from its history, in this process or in another one. A look therefore draws its numbers from the
run's and its own, is the same in every replay, and is recorded by whoever comes to its end first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle, ContinueAsNewError

from orchestrator import traces
from orchestrator.temporal.contract import ADVANCE_ACTIVITY, Effect, ExecutionInput, Question
from orchestrator.temporal.trace_headers import trace_of, with_trace
from orchestrator.traces import Attributes, Recorder, named


class TracingInterceptor(Interceptor):
    """Of a worker that runs executions or their activities."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _TracedActivity(next)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        recorder = self._recorder

        class TracedWorkflow(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                self._looks = _Looks(recorder)
                super().init(_TracedCommands(outbound, self._looks))

            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
                match input.args:
                    case [ExecutionInput() as start, *_]:
                        self._looks.start(trace_of(input.headers), start)
                    case _:  # another workflow on the same queue
                        return await super().execute_workflow(input)
                # Only what ends it: a run that is put out of memory ends here, too, by an error of its own.
                try:
                    outcome = await super().execute_workflow(input)
                except ContinueAsNewError:
                    self._looks.end(None)
                    raise
                except FailureError as error:
                    self._looks.end(type(error).__name__)
                    raise
                self._looks.end(None)
                return outcome

            async def handle_signal(self, input: HandleSignalInput) -> None:
                self._looks.poke(trace_of(input.headers))
                await super().handle_signal(input)

        return TracedWorkflow


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One time that an execution is at it."""

    trace_id: int
    span_id: int
    parent: str | None
    link: str | None
    woken_by: str
    # nanoseconds since the epoch
    since: int

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"


class _Looks:
    """The looks of one run of a workflow. Nothing here may differ when it is run again, but whether it is recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        #: The trace of the start. Who was not traced then, begins none later.
        self.origin: str | None = None
        self._execution_id = ""
        self._poked = False
        self._poke: str | None = None
        self._number = 0
        self._now: _Look | None = None

    def start(self, trace: str | None, start: ExecutionInput) -> None:
        self.origin = trace
        self._execution_id = start.execution_id
        if workflow.info().continued_run_id is None:
            self._begin("start", trace)
            if start.effect.kind == "sleep":
                self.end(None)
        elif start.effect.kind == "run":
            # Nobody has woken it: its history had become long, and it went on in another run.
            self._begin("history", None)

    def poke(self, trace: str | None) -> None:
        self._poked, self._poke = True, trace

    def asks(self, question: str) -> str | None:
        """The trace of an activity that is asked for. Who wakes, asks what comes next before anything else."""
        if self._now is None:
            self._begin("poke" if self._poked else "time", self._poke)
        if question == ADVANCE_ACTIVITY:
            self._poked, self._poke = False, None
        return self._now.traceparent if self._now is not None else None

    def answered(self, answer: ActivityHandle[Any]) -> None:
        """It may be that it sleeps now."""
        if answer.cancelled() or answer.exception() is not None:
            return
        match answer.result():
            case Effect(kind="sleep"):
                self.end(None)

    def end(self, error: str | None) -> None:
        look, self._now = self._now, None
        if look is None or workflow.unsafe.is_replaying():
            return
        self._recorder.tell(
            "execution",
            trace_id=look.trace_id,
            span_id=look.span_id,
            parent=look.parent,
            link=look.link,
            since=look.since,
            until=max(look.since, workflow.time_ns()),
            error=error,
            attributes=named(Attributes(execution_id=self._execution_id, woken_by=look.woken_by)),
        )

    def _begin(self, woken_by: str, parent: str | None) -> None:
        if parent is None and self.origin is None:
            return
        self._number += 1
        drawn = hashlib.sha256(f"{workflow.info().run_id}/{self._number}".encode()).digest()
        self._now = _Look(
            trace_id=int(parent[3:35], 16) if parent is not None else int.from_bytes(drawn[8:24]),
            span_id=int.from_bytes(drawn[:8]),
            parent=parent,
            link=self.origin if parent != self.origin else None,
            woken_by=woken_by,
            since=workflow.time_ns(),
        )


class _TracedCommands(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, looks: _Looks) -> None:
        super().__init__(next)
        self._looks = looks

    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        input.headers = with_trace(input.headers, self._looks.asks(input.activity))
        return self._heard(super().start_activity(input))

    def start_local_activity(self, input: StartLocalActivityInput) -> ActivityHandle[Any]:
        input.headers = with_trace(input.headers, self._looks.asks(input.activity))
        return self._heard(super().start_local_activity(input))

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        input.headers = with_trace(input.headers, self._looks.origin)
        super().continue_as_new(input)

    def _heard(self, handle: ActivityHandle[Any]) -> ActivityHandle[Any]:
        answered: Callable[[Any], object] = self._looks.answered
        handle.add_done_callback(answered)
        return handle


class _TracedActivity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        with traces.joined(info.activity_type, "consumer", trace_of(input.headers), attempt=info.attempt) as span:
            match input.args:
                case [Question(execution_id=execution_id), *_]:
                    # The id of an activity is `{seq}:{step}`.
                    span.note(execution_id=execution_id, step_id=info.activity_id.partition(":")[2])
            try:
                return await super().execute_activity(input)
            except ApplicationError as failure:
                # Its message is a reason, or the kind of the error (workers/errors.py).
                span.note(reason=failure.message)
                span.fail(failure.type or type(failure).__name__)
                raise
