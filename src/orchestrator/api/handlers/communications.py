"""CommunicationService."""

from __future__ import annotations

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.expected import expected
from orchestrator.api.json_values import struct_of, struct_to_json
from orchestrator.api.page_tokens import page_limit, page_start, page_token
from orchestrator.application import communications
from orchestrator.application.communications import Communications
from orchestrator.domain.communication import MARKETING, TRANSACTIONAL, Communication, Revision
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.v1 import communication_pb2 as pb
from orchestrator.v1 import communication_service_pb2 as rpc

_CATEGORIES = {
    MARKETING: pb.Category.CATEGORY_MARKETING,
    TRANSACTIONAL: pb.Category.CATEGORY_TRANSACTIONAL,
}
_WORDS = {number: word for word, number in _CATEGORIES.items()}


class CommunicationHandlers:
    def __init__(self, use_cases: Communications) -> None:
        self._use_cases = use_cases

    async def ListCommunications(
        self, request: rpc.ListCommunicationsRequest, call: Call
    ) -> rpc.ListCommunicationsResponse:
        page = await communications.page(call.conn, call.scope, place_of(request), page_limit(request))
        return rpc.ListCommunicationsResponse(
            communications=[_message(resource) for resource in page.resources],
            next_page_token=token_after(request, page.end),
        )

    @tells_all
    async def CreateCommunication(
        self, request: rpc.CreateCommunicationRequest, call: Call
    ) -> rpc.CreateCommunicationResponse:
        sent = request.communication
        resource = await self._use_cases.create(call.conn, call.scope, sent.id, _content(sent))
        return rpc.CreateCommunicationResponse(communication=_message(resource))

    async def GetCommunication(self, request: rpc.GetCommunicationRequest, call: Call) -> rpc.GetCommunicationResponse:
        resource = await communications.get(call.conn, call.scope, request.communication_id)
        return rpc.GetCommunicationResponse(communication=_message(resource))

    @tells_all
    async def UpdateCommunication(
        self, request: rpc.UpdateCommunicationRequest, call: Call
    ) -> rpc.UpdateCommunicationResponse:
        sent = request.communication
        content = _content(sent)
        changes = {path: getattr(content, path) for path in request.update_mask.paths}
        resource = await self._use_cases.update(call.conn, call.scope, sent.id, changes, expected(sent))
        return rpc.UpdateCommunicationResponse(communication=_message(resource))

    async def DeleteCommunication(
        self, request: rpc.DeleteCommunicationRequest, call: Call
    ) -> rpc.DeleteCommunicationResponse:
        await communications.delete(call.conn, call.scope, request.communication_id, expected(request))
        return rpc.DeleteCommunicationResponse()

    async def ListCommunicationRevisions(
        self, request: rpc.ListCommunicationRevisionsRequest, call: Call
    ) -> rpc.ListCommunicationRevisionsResponse:
        start = page_start(request, int)
        revisions, end = await communications.revisions(
            call.conn,
            call.scope,
            request.communication_id,
            before=start[0] if start else None,
            limit=page_limit(request),
        )
        return rpc.ListCommunicationRevisionsResponse(
            revisions=[_revision(revision) for revision in revisions],
            next_page_token=page_token(request, end) if end is not None else "",
        )


def _content(message: pb.Communication) -> Communication:
    return Communication(
        name=message.name,
        channel=message.channel,
        category=_WORDS.get(message.category, ""),
        subject=message.subject,
        body=message.body,
        settings=struct_to_json(message.settings),
    )


def _message(resource: Resource[Communication]) -> pb.Communication:
    content = resource.content
    return pb.Communication(
        id=resource.id,
        name=content.name,
        channel=content.channel,
        category=_CATEGORIES[content.category],
        subject=content.subject,
        body=content.body,
        settings=struct_of(content.settings),
        content_revision=content.content_revision,
        create_time=to_timestamp(resource.created_at),
        update_time=to_timestamp(resource.updated_at),
        etag=etag_of(resource.revision, resource.updated_at),
    )


def _revision(revision: Revision) -> pb.CommunicationRevision:
    return pb.CommunicationRevision(
        communication_id=revision.communication_id,
        content_revision=revision.content_revision,
        channel=revision.content["channel"],
        category=_CATEGORIES[revision.content["category"]],
        subject=revision.content["subject"],
        body=revision.content["body"],
        settings=struct_of(revision.content["settings"]),
        create_time=to_timestamp(revision.created_at),
    )
