"""TriggerContractService."""

from __future__ import annotations

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.api.expected import expected
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import trigger_contracts
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.trigger_contract import MAX_EVENT_AGE, Contract
from orchestrator.v1 import trigger_contract_pb2 as pb
from orchestrator.v1 import trigger_contract_service_pb2 as rpc


class TriggerContractHandlers:
    async def ListTriggerContracts(
        self, request: rpc.ListTriggerContractsRequest, call: Call
    ) -> rpc.ListTriggerContractsResponse:
        page = await trigger_contracts.page(call.conn, call.scope, place_of(request), page_limit(request))
        return rpc.ListTriggerContractsResponse(
            trigger_contracts=[_message(resource) for resource in page.resources],
            next_page_token=token_after(request, page.end),
        )

    @tells_all
    async def CreateTriggerContract(
        self, request: rpc.CreateTriggerContractRequest, call: Call
    ) -> rpc.CreateTriggerContractResponse:
        sent = request.trigger_contract
        resource = await trigger_contracts.create(call.conn, call.scope, sent.id, _content(sent))
        return rpc.CreateTriggerContractResponse(trigger_contract=_message(resource))

    async def GetTriggerContract(
        self, request: rpc.GetTriggerContractRequest, call: Call
    ) -> rpc.GetTriggerContractResponse:
        resource = await trigger_contracts.get(call.conn, call.scope, request.trigger_contract_id)
        return rpc.GetTriggerContractResponse(trigger_contract=_message(resource))

    @tells_all
    async def UpdateTriggerContract(
        self, request: rpc.UpdateTriggerContractRequest, call: Call
    ) -> rpc.UpdateTriggerContractResponse:
        sent = request.trigger_contract
        content = _content(sent)
        changes = {path: getattr(content, path) for path in request.update_mask.paths}
        resource = await trigger_contracts.update(call.conn, call.scope, sent.id, changes, expected(sent))
        return rpc.UpdateTriggerContractResponse(trigger_contract=_message(resource))

    async def DeleteTriggerContract(
        self, request: rpc.DeleteTriggerContractRequest, call: Call
    ) -> rpc.DeleteTriggerContractResponse:
        await trigger_contracts.delete(call.conn, call.scope, request.trigger_contract_id, expected(request))
        return rpc.DeleteTriggerContractResponse()


def _content(message: pb.TriggerContract) -> Contract:
    return Contract(
        name=message.name,
        event_name=message.event_name,
        predicate=predicate_to_document(message.predicate) if message.HasField("predicate") else None,
        entry_key_path=message.entry_key_path or None,
        max_event_age=message.max_event_age.ToTimedelta() if message.HasField("max_event_age") else MAX_EVENT_AGE,
    )


def _message(resource: Resource[Contract]) -> pb.TriggerContract:
    content = resource.content
    return pb.TriggerContract(
        id=resource.id,
        name=content.name,
        event_name=content.event_name,
        predicate=predicate_from_document(content.predicate) if content.predicate is not None else None,
        entry_key_path=content.entry_key_path or "",
        max_event_age=to_duration(content.max_event_age),
        create_time=to_timestamp(resource.created_at),
        update_time=to_timestamp(resource.updated_at),
        etag=etag_of(resource.revision, resource.updated_at),
    )
