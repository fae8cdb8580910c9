"""TriggerContractService."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.api.expected import expected
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import trigger_contracts
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.trigger_contract import MAX_EVENT_AGE, Contract, Transition
from orchestrator.v1 import trigger_contract_pb2 as pb
from orchestrator.v1 import trigger_contract_service_pb2 as rpc

_WORDS: dict[int, Transition] = {
    pb.TriggerContract.TRANSITION_ENTERED: "entered",
    pb.TriggerContract.TRANSITION_LEFT: "left",
}
_TRANSITIONS = {
    None: pb.TriggerContract.TRANSITION_UNSPECIFIED,
    "entered": pb.TriggerContract.TRANSITION_ENTERED,
    "left": pb.TriggerContract.TRANSITION_LEFT,
}


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
        resource = await trigger_contracts.create(call.conn, call.scope, sent.id, _content(sent))
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
        content = _content(sent)
        changes = {path: getattr(content, path) for path in request.update_mask.paths}
        resource = await trigger_contracts.update(call.conn, call.scope, sent.id, changes, expected(sent))
        [shown] = await _shown(call, [resource])
        return rpc.UpdateTriggerContractResponse(trigger_contract=shown)

    async def DeleteTriggerContract(
        self, request: rpc.DeleteTriggerContractRequest, call: Call
    ) -> rpc.DeleteTriggerContractResponse:
        await trigger_contracts.delete(call.conn, call.scope, request.trigger_contract_id, expected(request))
        return rpc.DeleteTriggerContractResponse()


def _content(message: pb.TriggerContract) -> Contract:
    return Contract(
        name=message.name,
        event_name=message.event_name or None,
        predicate=predicate_to_document(message.predicate) if message.HasField("predicate") else None,
        entry_key_path=message.entry_key_path or None,
        max_event_age=message.max_event_age.ToTimedelta() if message.HasField("max_event_age") else MAX_EVENT_AGE,
        segment_id=message.segment_id or None,
        transition=_WORDS.get(message.transition),
        include_definition_changes=message.include_definition_changes,
    )


async def _shown(call: Call, resources: Sequence[Resource[Contract]]) -> list[pb.TriggerContract]:
    contracts = [resource.content for resource in resources]
    missing = await trigger_contracts.missing_segments(call.conn, call.scope.project_no, contracts)
    return [_message(resource, missing) for resource in resources]


def _message(resource: Resource[Contract], missing: Collection[str]) -> pb.TriggerContract:
    content = resource.content
    segment_id = content.segment_id or ""
    return pb.TriggerContract(
        id=resource.id,
        name=content.name,
        event_name=content.event_name or "",
        predicate=predicate_from_document(content.predicate) if content.predicate is not None else None,
        entry_key_path=content.entry_key_path or "",
        max_event_age=to_duration(content.max_event_age),
        segment_id=segment_id,
        transition=_TRANSITIONS[content.transition],
        include_definition_changes=content.include_definition_changes,
        missing_segment_id=segment_id if segment_id in missing else "",
        create_time=to_timestamp(resource.created_at),
        update_time=to_timestamp(resource.updated_at),
        etag=etag_of(resource.revision, resource.updated_at),
    )
