"""What Temporal knows about executions that the ledger says are open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from orchestrator.domain.execution_status import Status

logger = logging.getLogger(__name__)

#: For all of a look together: whoever looks would rather have the ledger's word than wait longer.
PATIENCE = timedelta(seconds=2)

#: Calls to Temporal that one look has under way.
AT_ONCE = 16

_STATUSES: Mapping[WorkflowExecutionStatus, Status] = {
    WorkflowExecutionStatus.RUNNING: Status.RUNNING,
    WorkflowExecutionStatus.CONTINUED_AS_NEW: Status.RUNNING,
    WorkflowExecutionStatus.COMPLETED: Status.SUCCEEDED,
    WorkflowExecutionStatus.FAILED: Status.FAILED,
    WorkflowExecutionStatus.TIMED_OUT: Status.TIMED_OUT,
    WorkflowExecutionStatus.CANCELED: Status.ABORTED,
    WorkflowExecutionStatus.TERMINATED: Status.ABORTED,
}


class Statuses:
    """Asks about workflows by their ids."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of(self, workflow_ids: Sequence[str], *, time_left: float | None = None) -> dict[str, Status]:
        """The status of those that Temporal tells of in time; it may be away, or not have heard of one yet.

        `time_left`: the seconds that the caller has; half of them are for what comes after.
        """
        patience = PATIENCE if time_left is None else min(PATIENCE, timedelta(seconds=time_left / 2))
        turn = asyncio.Semaphore(AT_ONCE)
        known: dict[str, Status] = {}

        async def ask(workflow_id: str) -> None:
            async with turn:
                described = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=patience)
            if described.status is not None and described.status in _STATUSES:
                known[workflow_id] = _STATUSES[described.status]

        asked = [asyncio.create_task(ask(workflow_id)) for workflow_id in workflow_ids]
        if not asked:
            return known
        try:
            answered, _ = await asyncio.wait(asked, timeout=patience.total_seconds())
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        for task in answered:
            # RuntimeError: a client that connects at its first call could not.
            if (error := task.exception()) is not None and not isinstance(error, RPCError | RuntimeError | OSError):
                raise error
        if len(known) < len(workflow_ids):
            logger.info("temporal told of fewer", extra={"asked": len(workflow_ids), "told": len(known)})
        return known
