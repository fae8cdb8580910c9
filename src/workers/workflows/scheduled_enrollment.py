"""One firing of a journey's schedule. What is to be done is decided in Postgres, once however often this is run."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from orchestrator.temporal.schedules import (
        DUE_ATTRIBUTE,
        FIRE_ACTIVITY,
        FIRING_WORKFLOW,
        DueFiring,
        FiringInput,
    )


@workflow.defn(name=FIRING_WORKFLOW)
class ScheduledEnrollment:
    @workflow.run
    async def run(self, firing: FiringInput) -> str:
        info = workflow.info()
        # Whoever triggers it by hand means now.
        due_at = info.typed_search_attributes.get(DUE_ATTRIBUTE) or info.start_time
        came_of_it: str = await workflow.execute_activity(
            FIRE_ACTIVITY,
            DueFiring(
                project_no=firing.project_no,
                journey_id=firing.journey_id,
                digest=firing.digest,
                due_at=due_at.timestamp(),
            ),
            result_type=str,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10)),
        )
        return came_of_it
