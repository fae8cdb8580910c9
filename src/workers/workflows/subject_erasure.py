"""The durable driver of an erasure: it asks for steps until there are none. Whose it is stays in Postgres."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from orchestrator.temporal.erasures import ERASURE_WORKFLOW, STEP_ACTIVITY, ErasureInput, ErasureStep

# It has to be done, however long a part is away.
PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
#: Far more than a step takes: runs of many executions are asked about in one.
STEP = timedelta(minutes=10)
#: After a worker was killed, another goes on within this.
HEARTBEAT_WITHIN = timedelta(seconds=8)


@workflow.defn(name=ERASURE_WORKFLOW)
class SubjectErasure:
    @workflow.run
    async def run(self, erasure: ErasureInput) -> None:
        phase = ""
        while True:
            step = await workflow.execute_activity(
                STEP_ACTIVITY,
                erasure,
                result_type=ErasureStep,
                summary=phase,
                start_to_close_timeout=STEP,
                heartbeat_timeout=HEARTBEAT_WITHIN,
                retry_policy=PATIENT,
            )
            if step.done:
                return
            phase = step.phase
            workflow.set_current_details(phase)
            if step.pause > 0:
                await workflow.sleep(timedelta(seconds=step.pause))
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(erasure)
