"""Steps of erasures."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio import activity

from orchestrator.application.erasures import Erasures
from orchestrator.domain.erasure import Phase
from orchestrator.temporal.erasures import STEP_ACTIVITY, ErasureInput, ErasureStep
from workers.activities.tries import seen_through
from workers.errors import as_failure


@dataclass(frozen=True)
class ErasureActivities:
    """May be repeated after any failure: how far an erasure has come is in the database."""

    erasures: Erasures

    @activity.defn(name=STEP_ACTIVITY)
    async def erase_some(self, erasure: ErasureInput) -> ErasureStep:
        try:
            step = await seen_through(self.erasures.step(erasure.project_no, erasure.erasure_id))
        except Exception as error:
            # What an error says may hold ids of workflows, and would stand in the history.
            raise as_failure(error) from None
        return ErasureStep(done=step.phase is Phase.DONE, pause=step.pause, phase=step.phase.value)
