"""Updates of policies, journey by journey. What they are made of stays in Postgres."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from orchestrator.temporal.policies import (
        JOURNEYS_AT_ONCE,
        LIST_ACTIVITY,
        NOT_UPDATED_ERROR,
        UPDATE_ACTIVITY,
        UPDATE_WORKFLOW,
        Learning,
        UpdateInput,
    )

PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
BRIEF = timedelta(seconds=30)
#: Counting a journey with some million choices takes so long at most.
UPDATE = timedelta(minutes=10)
#: After a worker was killed, another takes up the journey within this.
HEARTBEAT_WITHIN = timedelta(seconds=20)
#: Others wait while a journey is updated: so long at most, outages included.
PATIENCE = timedelta(minutes=20)


@workflow.defn(name=UPDATE_WORKFLOW)
class PolicyUpdate:
    """Has policies made anew: of one journey, or of all. Goes on behind a journey that fails, and fails in the end."""

    @workflow.run
    async def run(self, start: UpdateInput) -> None:
        if start.only is not None:
            await _update(start.only)
            return
        journeys = await workflow.execute_activity(
            LIST_ACTIVITY,
            start.after or Learning(project_no=0, journey_id=""),
            result_type=list[Learning],
            start_to_close_timeout=BRIEF,
            retry_policy=PATIENT,
        )
        failed = start.failed
        for journey in journeys:
            try:
                await _update(journey)
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                failed += 1
        if len(journeys) == JOURNEYS_AT_ONCE:
            workflow.continue_as_new(UpdateInput(after=journeys[-1], failed=failed))
        if failed:
            message = f"the policies of {failed} journeys could not be updated"
            raise ApplicationError(message, type=NOT_UPDATED_ERROR, non_retryable=True)


async def _update(journey: Learning) -> None:
    """Raises ActivityError."""
    await workflow.execute_activity(
        UPDATE_ACTIVITY,
        journey,
        summary=journey.journey_id,
        start_to_close_timeout=UPDATE,
        schedule_to_close_timeout=PATIENCE,
        heartbeat_timeout=HEARTBEAT_WITHIN,
        retry_policy=PATIENT,
    )
