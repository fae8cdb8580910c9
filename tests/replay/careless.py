"""What careless changes would make of the workflows: each has to be noticed by a stored history."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta

from temporalio import workflow

from orchestrator.temporal.contract import ADVANCE_ACTIVITY, EXECUTION_WORKFLOW, Effect, ExecutionInput, Question
from orchestrator.temporal.erasures import ERASURE_WORKFLOW, ErasureInput
from orchestrator.temporal.policies import UPDATE_WORKFLOW, UpdateInput
from orchestrator.temporal.schedules import FIRING_WORKFLOW, FiringInput
from orchestrator.temporal.segments import EVALUATION_WORKFLOW, SWEEP_WORKFLOW, EvaluationInput, SweepInput
from workers.workflows.journey_execution import PATIENT, REGULAR_TIMEOUT, JourneyExecution


@workflow.defn(name=EXECUTION_WORKFLOW)
class Reordered:
    """Sleeps first, then acts."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        await workflow.sleep(timedelta(seconds=1))
        return start.effect.outcome

    @workflow.signal
    def poke(self) -> None:
        pass


@workflow.defn(name=EXECUTION_WORKFLOW)
class NeverLocal(JourneyExecution):
    """Asks by a regular activity at once."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        return await super().run(start)

    async def _advance(self, effect: Effect, question: Question) -> Effect:
        answer: Effect = await workflow.execute_activity(
            ADVANCE_ACTIVITY,
            replace(question, now=workflow.time()),
            result_type=Effect,
            start_to_close_timeout=REGULAR_TIMEOUT,
            retry_policy=PATIENT,
        )
        return answer


@workflow.defn(name=EXECUTION_WORKFLOW)
class Deaf(JourneyExecution):
    """Sleeps through pokes."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        return await super().run(start)

    async def _sleep(self, effect: Effect, seen: int) -> None:
        rest = timedelta(seconds=effect.until - workflow.time())
        if rest > timedelta(0):
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(lambda: False, timeout=rest)


@workflow.defn(name=EXECUTION_WORKFLOW)
class Impatient(JourneyExecution):
    """Leaves nothing that is in back-off, however often it is poked."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        return await super().run(start)

    def _done_or_poked(self, running: workflow.ActivityHandle[Effect], seen: int) -> bool:
        return running.done()


@workflow.defn(name=EXECUTION_WORKFLOW)
class Stubborn(JourneyExecution):
    """Goes on with what it has hurried, though it was canceled meanwhile."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        return await super().run(start)

    def _is_canceled(self) -> bool:
        return False


@workflow.defn(name=EXECUTION_WORKFLOW)
class Hidden(JourneyExecution):
    """Shows nobody where it stands."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        return await super().run(start)

    def _show(self, effect: Effect) -> None:
        pass


@workflow.defn(name=EXECUTION_WORKFLOW)
class Endless(JourneyExecution):
    """Never goes on in a new run: as if Temporal suggested it to nobody."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        effect = start.effect
        self._searchable, self._phase = start.searchable, start.phase
        seen = 0
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
            else:
                await self._sleep(effect, seen)
                asked = self._pokes
                answer = await self._advance(effect, question)
            seen, effect = asked, answer
        return effect.outcome


@workflow.defn(name=EVALUATION_WORKFLOW)
class Idle:
    """Asks for nothing before it waits."""

    @workflow.run
    async def run(self, start: EvaluationInput) -> None:
        await workflow.sleep(timedelta(seconds=1))

    @workflow.signal
    def look_again(self) -> None:
        pass


@workflow.defn(name=SWEEP_WORKFLOW)
class Forgetful:
    """Sweeps nothing."""

    @workflow.run
    async def run(self, start: SweepInput) -> None:
        return


@workflow.defn(name=UPDATE_WORKFLOW)
class Unlearned:
    """Has nothing made."""

    @workflow.run
    async def run(self, start: UpdateInput) -> None:
        return


@workflow.defn(name=FIRING_WORKFLOW)
class Late:
    """Asks nobody."""

    @workflow.run
    async def run(self, firing: FiringInput) -> str:
        return firing.digest


@workflow.defn(name=ERASURE_WORKFLOW)
class Hasty:
    """Waits for nothing to be erased."""

    @workflow.run
    async def run(self, erasure: ErasureInput) -> None:
        return


CARELESS: tuple[type, ...] = (
    Reordered, NeverLocal, Deaf, Impatient, Stubborn, Hidden, Endless, Idle, Forgetful, Unlearned, Late, Hasty,
)  # fmt: skip
