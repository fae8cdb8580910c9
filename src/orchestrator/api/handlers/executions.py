"""ExecutionService."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.cancellations import cancellation_message, filter_of, step_messages
from orchestrator.api.convert.execution_explanations import explanation_message, stuck_message
from orchestrator.api.convert.executions import execution_message, place_of, token_after, whole_message
from orchestrator.api.page_tokens import page_limit, page_start, page_token
from orchestrator.application import canceling, watchdog
from orchestrator.application.execution_explanations import ExecutionExplanations
from orchestrator.application.executions import Executions, Seen
from orchestrator.application.inbox_rounds import Tell
from orchestrator.application.versions import Versions
from orchestrator.domain.execution_status import status_of
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.storage.stuck import Place
from orchestrator.v1 import execution_service_pb2 as rpc


class ExecutionHandlers:
    def __init__(self, executions: Executions, versions: Versions, tell: Tell) -> None:
        """`tell` tells Temporal, after the commit, of executions that are to look."""
        self._executions = executions
        self._explanations = ExecutionExplanations(executions, versions)
        self._tell = tell

    @own_transactions
    async def ListExecutions(self, request: rpc.ListExecutionsRequest, call: Call) -> rpc.ListExecutionsResponse:
        page, end = await self._executions.page(
            call.transactions,
            call.scope,
            journey_id=request.journey_id or None,
            subject_id=request.subject_id or None,
            after=place_of(request),
            limit=page_limit(request),
        )
        return rpc.ListExecutionsResponse(
            executions=[execution_message(seen) for seen in page], next_page_token=token_after(request, end)
        )

    @own_transactions
    async def GetExecution(self, request: rpc.GetExecutionRequest, call: Call) -> rpc.GetExecutionResponse:
        whole = await self._executions.get(call.transactions, call.scope, request.execution_id)
        return rpc.GetExecutionResponse(execution=whole_message(whole))

    @own_transactions
    async def ExplainExecution(self, request: rpc.ExplainExecutionRequest, call: Call) -> rpc.ExplainExecutionResponse:
        told = await self._explanations.explain(call.transactions, call.scope, request.execution_id)
        return rpc.ExplainExecutionResponse(explanation=explanation_message(told))

    async def ListStuckExecutions(
        self, request: rpc.ListStuckExecutionsRequest, call: Call
    ) -> rpc.ListStuckExecutionsResponse:
        page, end = await watchdog.page(
            call.conn,
            call.scope,
            journey_id=request.journey_id or None,
            overdue_by=request.overdue_by.ToTimedelta() if request.HasField("overdue_by") else None,
            after=_place_of(request),
            limit=page_limit(request),
        )
        token = page_token(request, *end[:3], str(end[3])) if end is not None else ""
        return rpc.ListStuckExecutionsResponse(executions=[stuck_message(late) for late in page], next_page_token=token)

    async def CancelExecution(self, request: rpc.CancelExecutionRequest, call: Call) -> rpc.CancelExecutionResponse:
        canceled = await canceling.cancel(call.conn, call.scope, request.execution_id, request.reason)
        call.after_commit(partial(self._tell, canceled.told))
        execution = canceled.execution
        seen = Seen(execution=execution, status=status_of(execution.outcome), live=False)
        return rpc.CancelExecutionResponse(execution=execution_message(seen))

    async def CancelExecutions(self, request: rpc.CancelExecutionsRequest, call: Call) -> rpc.CancelExecutionsResponse:
        wanted = filter_of(request.filter)
        if call.validate_only:
            count = await canceling.count_many(call.conn, call.scope, request.journey_id, wanted)
            return rpc.CancelExecutionsResponse(count=count.total, steps=step_messages(count))
        asked = await canceling.cancel_many(
            call.conn, call.scope, request.journey_id, wanted, request.reason, request.at_most
        )
        call.after_commit(partial(self._tell, asked.told))
        return rpc.CancelExecutionsResponse(
            cancellation=cancellation_message(asked.cancellation),
            count=asked.count.total,
            steps=step_messages(asked.count),
        )

    async def GetCancellation(self, request: rpc.GetCancellationRequest, call: Call) -> rpc.GetCancellationResponse:
        found = await canceling.get(call.conn, call.scope, request.cancellation_id)
        return rpc.GetCancellationResponse(cancellation=cancellation_message(found))


def _place_of(request: rpc.ListStuckExecutionsRequest) -> Place | None:
    start = page_start(request, str, int, int, str)
    if start is None:
        return None
    try:
        return start[0], start[1], start[2], UUID(start[3])
    except ValueError:
        message = "not a token that this list gave: start from the first page"
        raise InvalidArgument.of("pageToken", "PAGE_TOKEN_INVALID", message) from None
