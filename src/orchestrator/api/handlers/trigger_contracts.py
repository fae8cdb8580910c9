"""TriggerContractService."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.trigger_contracts import contract_content, contract_message
from orchestrator.api.expected import expected
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import trigger_contracts
from orchestrator.domain.resource import Resource
from orchestrator.domain.trigger_contract import Contract
from orchestrator.v1 import trigger_contract_pb2 as pb
from orchestrator.v1 import trigger_contract_service_pb2 as rpc


class TriggerContractHandlers:
    async def ListTriggerContracts(
        self, request: rpc.ListTriggerContractsRequest, call: Call
    ) -> rpc.ListTriggerContractsResponse:
        page = await trigger_contracts.page(call.conn, call.scope, place_of(request), page_limit(request))
        return rpc.ListTriggerContractsResponse(
            trigger_contracts=await _shown(call, page.resources),
            next_page_token=token_after(request, page.end),
        )

    @tells_all
    async def CreateTriggerContract(
        self, request: rpc.CreateTriggerContractRequest, call: Call
    ) -> rpc.CreateTriggerContractResponse:
        sent = request.trigger_contract
        resource = await trigger_contracts.create(call.conn, call.scope, sent.id, contract_content(sent))
        [shown] = await _shown(call, [resource])
        return rpc.CreateTriggerContractResponse(trigger_contract=shown)

    async def GetTriggerContract(
        self, request: rpc.GetTriggerContractRequest, call: Call
    ) -> rpc.GetTriggerContractResponse:
        resource = await trigger_contracts.get(call.conn, call.scope, request.trigger_contract_id)
        [shown] = await _shown(call, [resource])
        return rpc.GetTriggerContractResponse(trigger_contract=shown)

    @tells_all
    async def UpdateTriggerContract(
        self, request: rpc.UpdateTriggerContractRequest, call: Call
    ) -> rpc.UpdateTriggerContractResponse:
        sent = request.trigger_contract
        content = contract_content(sent)
        changes = {path: getattr(content, path) for path in request.update_mask.paths}
        resource = await trigger_contracts.update(call.conn, call.scope, sent.id, changes, expected(sent))
        [shown] = await _shown(call, [resource])
        return rpc.UpdateTriggerContractResponse(trigger_contract=shown)

    async def DeleteTriggerContract(
        self, request: rpc.DeleteTriggerContractRequest, call: Call
    ) -> rpc.DeleteTriggerContractResponse:
        await trigger_contracts.delete(call.conn, call.scope, request.trigger_contract_id, expected(request))
        return rpc.DeleteTriggerContractResponse()


async def _shown(call: Call, resources: Sequence[Resource[Contract]]) -> list[pb.TriggerContract]:
    contracts = [resource.content for resource in resources]
    missing = await trigger_contracts.missing_segments(call.conn, call.scope.project_no, contracts)
    return [contract_message(resource, missing) for resource in resources]
