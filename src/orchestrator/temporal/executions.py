"""Starts executions and pokes them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum

from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.temporal.contract import (
    ENROLLMENT_MEMO,
    EXECUTION_WORKFLOW,
    JOURNEY_ATTRIBUTE,
    JOURNEYS_QUEUE,
    PHASE_ATTRIBUTE,
    POKE_SIGNAL,
    PROJECT_ATTRIBUTE,
    RUNNING_PHASE,
    SUBJECT_ATTRIBUTE,
    VERSION_ATTRIBUTE,
    ExecutionInput,
)

logger = logging.getLogger(__name__)


class Told(Enum):
    """What Temporal answered. DONE: it holds; GONE: there is nothing to poke; FOREIGN: the id belongs to another enrollment."""

    DONE = "done"
    GONE = "gone"
    FOREIGN = "foreign"


#: Temporal will never take such a request, however often it is asked.
PERMANENT = frozenset({RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything the workflow of an execution is started with."""

    workflow_id: str
    project_id: str
    journey_id: str
    version: int
    subject_id: str
    input: ExecutionInput


class Executions:
    """The executions' workflows. Raises `temporalio.service.RPCError` when Temporal cannot be reached or refuses."""

    def __init__(self, client: Client, *, eager: bool) -> None:
        """`eager`: this process also runs a worker of the journeys queue on the same client."""
        self._client = client
        self._eager = eager

    async def start(self, start: Start) -> Told:
        """Start the workflow once: a repeat finds it, running or closed, and is content."""
        try:
            await self._client.start_workflow(
                EXECUTION_WORKFLOW,
                start.input,
                id=start.workflow_id,
                task_queue=JOURNEYS_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={ENROLLMENT_MEMO: start.input.execution_id},
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(PROJECT_ATTRIBUTE, start.project_id),
                        SearchAttributePair(JOURNEY_ATTRIBUTE, start.journey_id),
                        SearchAttributePair(VERSION_ATTRIBUTE, start.version),
                        SearchAttributePair(SUBJECT_ATTRIBUTE, start.subject_id),
                        SearchAttributePair(PHASE_ATTRIBUTE, RUNNING_PHASE),
                    ]
                ),
                static_summary=f"{start.journey_id} v{start.version}",
                request_eager_start=self._eager,
            )
        except WorkflowAlreadyStartedError:
            return await self._whose(start)
        return Told.DONE

    async def _whose(self, start: Start) -> Told:
        try:
            described = await self._client.get_workflow_handle(start.workflow_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:  # closed and deleted between the two calls
                return Told.DONE
            raise
        if await described.memo_value(ENROLLMENT_MEMO, default=None) == start.input.execution_id:
            return Told.DONE
        logger.error("a workflow id belongs to another enrollment", extra={"execution_id": start.input.execution_id})
        return Told.FOREIGN

    async def poke(self, workflow_id: str) -> Told:
        """Make an execution look again. One that has ended needs no waking."""
        try:
            await self._client.get_workflow_handle(workflow_id).signal(POKE_SIGNAL)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return Told.GONE
            raise
        return Told.DONE
