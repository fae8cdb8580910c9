"""Workers of releases to come, as processes: `python -m tests.faults.releases NAME`, with a worker's environment.

`same` is this one. `patched` gives other commands and says since when; `careless` does not say so, and cannot go on
with what any other release has begun.
"""

from __future__ import annotations

import logging
import os
import sys
from datetime import timedelta

from temporalio import workflow

from orchestrator.temporal.contract import ADVANCE_ACTIVITY, EXECUTION_WORKFLOW, Effect, ExecutionInput, Question
from workers import main, process
from workers.workflows.journey_execution import PATIENT, REGULAR_TIMEOUT, JourneyExecution

SAME, PATCHED, CARELESS = "same", "patched", "careless"
#: What executions that the patched release has worked on have in their histories.
PATCH = "asks-by-activities"


@workflow.defn(name=EXECUTION_WORKFLOW)
class Patched(JourneyExecution):
    """Asks what comes next by an activity; who has asked in the old way goes on so up to where it stands."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        return await super().run(start)

    async def _advance(self, effect: Effect, question: Question) -> Effect:
        if not workflow.patched(PATCH):
            return await super()._advance(effect, question)
        answer: Effect = await workflow.execute_activity(
            ADVANCE_ACTIVITY,
            question,
            result_type=Effect,
            start_to_close_timeout=REGULAR_TIMEOUT,
            retry_policy=PATIENT,
        )
        return answer


@workflow.defn(name=EXECUTION_WORKFLOW)
class Careless(JourneyExecution):
    """Takes a breath before everything."""

    @workflow.run
    async def run(self, start: ExecutionInput) -> str:
        await workflow.sleep(timedelta(milliseconds=10))
        return await super().run(start)


RELEASES: dict[str, type[JourneyExecution]] = {SAME: JourneyExecution, PATCHED: Patched, CARELESS: Careless}

if __name__ == "__main__":
    # Temporal's sandbox imports a workflow's module by its name, and `__main__` is none.
    from tests.faults import releases

    setattr(process, "JourneyExecution", releases.RELEASES[sys.argv[1]])  # noqa: B010 - not a name that it exports
    status = main.main()
    logging.shutdown()
    os._exit(status)
