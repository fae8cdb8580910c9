"""The durable driver of one execution: it follows effects and never interprets the graph.

What to do next is decided in Postgres (`orchestrator.application.advance`). So a change of the interpreter cannot break
the replay of executions that wait for months, and a history holds ids and small enums only.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NoReturn

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from orchestrator.temporal.contract import (
        ADVANCE_ACTIVITY,
        EXECUTION_WORKFLOW,
        HEARTBEAT,
        PHASE_ATTRIBUTE,
        PHASE_FROM,
        POKE_SIGNAL,
        RUNNING_PHASE,
        USUAL_PRIORITY,
        Effect,
        ExecutionInput,
        Question,
    )

# An answer that is late is asked for again for as long as it takes: the database decides, and it comes back.
PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))
# Local activities hold the workflow task, which must not last.
BRISK = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=2)

LOCAL_TIMEOUT = timedelta(seconds=2)
REGULAR_TIMEOUT = timedelta(seconds=10)

# Executions that began before this leave no trace of parking in their histories.
SHOWS_PARKS = "shows-parks"

# Those that had a long history in a back-off before this went on in it.
GOES_ON_IN_BACK_OFF = "goes-on-in-back-off"

# Those that somebody canceled in Temporal before this, while they waited for a try that they had hurried, went on.
HEARS_CANCELS = "hears-cancels"


class UnknownEffect(Exception):
    """This worker is older than the effect.

    The workflow task fails and is tried again, until a newer worker takes it.
    """


@workflow.defn(name=EXECUTION_WORKFLOW)
class JourneyExecution:
    def __init__(self) -> None:
        self._pokes = 0
        self._steps: dict[tuple[int, str], str] = {}
        self._searchable = True
        self._phase = RUNNING_PHASE  # what the search attribute says

    @workflow.signal(name=POKE_SIGNAL, description="Something changed: look again. Carries nothing.")
    def poke(self) -> None:
        self._pokes += 1

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        effect = start.effect
        self._searchable, self._phase = start.searchable, start.phase
        seen = 0  # pokes counted before `effect` was asked for: what came later, it may not know
        while effect.kind != "end":
            asked = self._pokes
            question = Question(
                project_no=start.project_no,
                bucket=start.bucket,
                subject_no=start.subject_no,
                execution_id=start.execution_id,
                seq=effect.seq,
                now=0.0,
            )
            self._show(effect)
            if effect.kind == "run":
                answer = await self._run(effect, question, start)
            elif effect.kind == "sleep":
                await self._sleep(effect, seen)
                asked = self._pokes
                answer = await self._advance(effect, question)
            else:
                raise UnknownEffect(f"{effect.kind!r} at {effect.seq}")
            seen, effect = asked, answer
            # The count of pokes starts again at 0, so none may be unanswered.
            if workflow.info().is_continue_as_new_suggested() and self._pokes == seen:
                self._go_on_anew(start, effect)
        return effect.outcome

    def _go_on_anew(self, start: ExecutionInput, effect: Effect) -> NoReturn:
        """In a history of its own."""
        workflow.continue_as_new(replace(start, effect=effect, phase=self._phase))

    async def _run(self, effect: Effect, question: Question, start: ExecutionInput) -> Effect:
        """Runs the activity. While it is in back-off between two tries, a poke makes it look again at once."""
        priority = Priority.default
        while True:
            seen = self._pokes
            running = workflow.start_activity(
                effect.activity,
                replace(question, now=workflow.time()),
                result_type=Effect,
                task_queue=effect.queue,
                activity_id=f"{effect.seq}:{effect.step_id}",
                summary=effect.step_id,
                start_to_close_timeout=timedelta(seconds=effect.timeout),
                heartbeat_timeout=timedelta(seconds=HEARTBEAT),
                retry_policy=PATIENT,
                # A try that is under way ends as it ends; only a back-off is cut short.
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                priority=priority,
            )
            await workflow.wait_condition(partial(self._done_or_poked, running, seen))
            hurried = not running.done()
            if hurried:
                running.cancel()
            answer: Effect | None = None
            try:
                answer = await running
            except FailureError:
                if not hurried:
                    raise
            # That the workflow is canceled as well, what is canceled already does not pass on.
            if hurried and self._is_canceled():
                raise asyncio.CancelledError
            if answer is not None:
                return answer
            # It may have stood in a queue all the time, behind others: it does not lose its place by being poked.
            priority = _in_front()
            # A provider may be away for days, and pokes come all the while; the next try answers them all.
            if workflow.info().is_continue_as_new_suggested() and workflow.patched(GOES_ON_IN_BACK_OFF):
                self._go_on_anew(start, effect)

    def _is_canceled(self) -> bool:
        return workflow.cancellation_reason() is not None and workflow.patched(HEARS_CANCELS)

    def _done_or_poked(self, running: workflow.ActivityHandle[Effect], seen: int) -> bool:
        return running.done() or self._pokes > seen

    async def _sleep(self, effect: Effect, seen: int) -> None:
        rest = timedelta(seconds=effect.until - workflow.time())
        if rest <= timedelta(0):
            return
        until = datetime.fromtimestamp(effect.until, UTC)
        # Running into the timeout is one of the two ways to wake.
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(
                lambda: self._pokes > seen, timeout=rest, timeout_summary=f"{effect.step_id} until {until:%F %T}Z"
            )

    async def _advance(self, effect: Effect, question: Question) -> Effect:
        """Local, for speed; a regular activity when the database is away for longer than a task may last."""
        question = replace(question, now=workflow.time())
        try:
            answer: Effect = await workflow.execute_local_activity(
                ADVANCE_ACTIVITY,
                question,
                result_type=Effect,
                activity_id=f"{effect.seq}:advance",
                summary=effect.step_id,
                start_to_close_timeout=LOCAL_TIMEOUT,
                retry_policy=BRISK,
            )
        except FailureError as failure:  # a local activity raises its own error, not an ActivityError
            if is_cancelled_exception(failure):
                raise
            answer = await workflow.execute_activity(
                ADVANCE_ACTIVITY,
                question,
                result_type=Effect,
                summary=effect.step_id,
                start_to_close_timeout=REGULAR_TIMEOUT,
                retry_policy=PATIENT,
            )
        return answer

    def _show(self, effect: Effect) -> None:
        """Tell whoever opens the execution in the Temporal UI where it stands."""
        # Who is woken and told to wait on stands on the same step as before.
        self._steps[effect.seq, effect.step_id] = (
            f"| {effect.seq} | {effect.step_id} | {effect.activity or effect.why} |"
        )
        workflow.set_current_details(
            "| # | step | doing |\n|---|---|---|\n" + "\n".join(self._steps.values())
        )  # writes no history
        if not self._searchable:
            return
        phase = effect.why if self._is_worth_a_phase(effect) else RUNNING_PHASE
        if phase != self._phase:
            workflow.upsert_search_attributes([PHASE_ATTRIBUTE.value_set(phase)])
            self._phase = phase

    def _is_worth_a_phase(self, effect: Effect) -> bool:
        if effect.kind != "sleep":
            return False
        if effect.until - workflow.time() >= PHASE_FROM:
            return True
        # However short the sleep: somebody has to mend something.
        return effect.why == "park" and workflow.patched(SHOWS_PARKS)


def _in_front() -> Priority:
    """Before all activities of executions like this one that wait for their first turn."""
    own = workflow.info().priority.priority_key or USUAL_PRIORITY
    return Priority(priority_key=max(1, own - 1))
