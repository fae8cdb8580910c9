"""Updates of policies, as Temporal knows them: names, inputs, the schedule, and how one is started."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from orchestrator.temporal.regular_work import ensure_schedule

POLICIES_QUEUE = "policies"

UPDATE_WORKFLOW = "POLICY_UPDATE"
LIST_ACTIVITY = "list_learning_journeys"
UPDATE_ACTIVITY = "update_policies"

#: Why the workflow of the schedule fails in the end: journeys whose policies could not be made were left out.
NOT_UPDATED_ERROR = "POLICIES_NOT_UPDATED"

#: Journeys that one workflow takes before it goes on in a new one.
JOURNEYS_AT_ONCE = 100

SCHEDULE_ID = "policy-update"
UPDATE_EVERY = timedelta(hours=1)
#: One that was due while Temporal was away is made up for if it was due no longer ago than this.
CATCH_UP = timedelta(hours=1)


@dataclass
class Learning:
    """A journey whose policies are made anew."""

    project_no: int
    journey_id: str


@dataclass
class UpdateInput:
    """`only`: this journey. None: all behind `after`, in order; of those before `failed` could not be updated."""

    only: Learning | None = None
    after: Learning | None = None
    failed: int = 0


def update_id(project_no: int, journey_id: str) -> str:
    """The workflow that sees to one journey, because somebody asked."""
    return f"policy-update:{project_no}:{journey_id}"


class PolicyWorkflows:
    """Starts updates; built over a connected client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def see_to(self, project_no: int, journey_id: str) -> None:
        """Start the workflow for a journey; one that runs already is as good, since the request stays until an update
        has begun behind it. Raises RPCError.
        """
        await self._client.start_workflow(
            UPDATE_WORKFLOW,
            UpdateInput(only=Learning(project_no=project_no, journey_id=journey_id)),
            id=update_id(project_no, journey_id),
            task_queue=POLICIES_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary="update the policies of a journey",
        )

    async def ensure_schedule(self, every: timedelta = UPDATE_EVERY) -> None:
        """Have all policies updated on schedule, one update at a time. Raises RPCError."""
        await ensure_schedule(
            self._client, SCHEDULE_ID, UPDATE_WORKFLOW, UpdateInput(),
            task_queue=POLICIES_QUEUE, summary="update policies", every=every, catch_up=CATCH_UP,
        )  # fmt: skip
