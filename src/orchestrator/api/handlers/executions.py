"""ExecutionService."""

from __future__ import annotations

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.executions import execution_message, place_of, token_after, whole_message
from orchestrator.api.page_tokens import page_limit
from orchestrator.application.executions import Executions
from orchestrator.v1 import execution_service_pb2 as rpc


class ExecutionHandlers:
    def __init__(self, executions: Executions) -> None:
        self._executions = executions

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
