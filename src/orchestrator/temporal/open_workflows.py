"""Which executions Temporal has under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from orchestrator.temporal.client import CALL_TIMEOUT, LIST_TIMEOUT
from orchestrator.temporal.codec import missing_kid, payloads_in
from orchestrator.temporal.contract import EXECUTION_WORKFLOW
from orchestrator.temporal.executions import no_workflow
from orchestrator.temporal.memos import memo_of

_AT_ONCE = 16
#: Entries of a history: it is a task of late that could not be done.
_LATELY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWorkflow:
    """`execution` is (project_no, bucket, subject_no, execution_id); None: it does not say whose it is.

    `missing_kid`: what it says is encrypted with a key that is not here.
    """

    workflow_id: str
    execution: tuple[int, int, int, UUID] | None
    missing_kid: str | None = None


async def open_workflows(client: Client, started_before: datetime) -> AsyncIterator[OpenWorkflow]:
    """As Temporal's list has them, which lags behind a little. Raises RPCError."""
    query = (
        f"WorkflowType = '{EXECUTION_WORKFLOW}' AND ExecutionStatus = 'Running' "
        f"AND StartTime < '{started_before.isoformat()}'"
    )
    async for found in client.list_workflows(query, page_size=1000, rpc_timeout=LIST_TIMEOUT):
        memo = await memo_of(found)
        whose = None
        if memo.subject is not None and memo.execution_id is not None:
            whose = (*memo.subject, memo.execution_id)
        yield OpenWorkflow(workflow_id=found.id, execution=whose, missing_kid=memo.missing_kid)


async def missing_kids(client: Client, workflow_ids: Iterable[str]) -> dict[str, str]:
    """Of these, which have something lately that is encrypted with a key that is not here, and with which. Raises
    RPCError.
    """
    turn = asyncio.Semaphore(_AT_ONCE)
    missing: dict[str, str] = {}

    async def look(workflow_id: str) -> None:
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id),
            maximum_page_size=_LATELY,
        )
        async with turn:
            try:
                answer = await client.workflow_service.get_workflow_execution_history_reverse(
                    request, timeout=CALL_TIMEOUT
                )
            except RPCError as error:
                if no_workflow(error):
                    return
                raise
        for payload in payloads_in(answer.history):
            if (kid := missing_kid(client.data_converter, payload)) is not None:
                missing[workflow_id] = kid
                return

    await asyncio.gather(*map(look, workflow_ids))
    return missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a workflow is at this moment. `closed_at` None: it runs."""

    status: WorkflowExecutionStatus | None
    closed_at: datetime | None


async def describe(client: Client, workflow_ids: Iterable[str]) -> dict[str, Described]:
    """Those that there are. Raises RPCError."""
    turn = asyncio.Semaphore(_AT_ONCE)
    known: dict[str, Described] = {}

    async def ask(workflow_id: str) -> None:
        async with turn:
            try:
                described = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=CALL_TIMEOUT)
            except RPCError as error:
                if no_workflow(error):
                    return
                raise
        known[workflow_id] = Described(status=described.status, closed_at=described.close_time)

    await asyncio.gather(*map(ask, workflow_ids))
    return known
