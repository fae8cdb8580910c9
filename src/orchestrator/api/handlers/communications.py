"""CommunicationService."""

from __future__ import annotations

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.communications import (
    asked_preview,
    asked_test,
    communication_content,
    communication_message,
    revision_message,
    sent_test_message,
)
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.expected import expected
from orchestrator.api.json_values import struct_of
from orchestrator.api.page_tokens import page_limit, page_start, page_token
from orchestrator.application import communications, sent_tests
from orchestrator.application.communications import Communications
from orchestrator.application.previews import Previews
from orchestrator.application.sent_tests import SentTests
from orchestrator.v1 import communication_service_pb2 as rpc


class CommunicationHandlers:
    def __init__(self, use_cases: Communications, previews: Previews, tests: SentTests) -> None:
        self._use_cases = use_cases
        self._previews = previews
        self._tests = tests

    async def ListCommunications(
        self, request: rpc.ListCommunicationsRequest, call: Call
    ) -> rpc.ListCommunicationsResponse:
        page = await communications.page(call.conn, call.scope, place_of(request), page_limit(request))
        return rpc.ListCommunicationsResponse(
            communications=[communication_message(resource) for resource in page.resources],
            next_page_token=token_after(request, page.end),
        )

    @tells_all
    async def CreateCommunication(
        self, request: rpc.CreateCommunicationRequest, call: Call
    ) -> rpc.CreateCommunicationResponse:
        sent = request.communication
        resource = await self._use_cases.create(call.conn, call.scope, sent.id, communication_content(sent))
        return rpc.CreateCommunicationResponse(communication=communication_message(resource))

    async def GetCommunication(self, request: rpc.GetCommunicationRequest, call: Call) -> rpc.GetCommunicationResponse:
        resource = await communications.get(call.conn, call.scope, request.communication_id)
        return rpc.GetCommunicationResponse(communication=communication_message(resource))

    @tells_all
    async def UpdateCommunication(
        self, request: rpc.UpdateCommunicationRequest, call: Call
    ) -> rpc.UpdateCommunicationResponse:
        sent = request.communication
        content = communication_content(sent)
        changes = {path: getattr(content, path) for path in request.update_mask.paths}
        resource = await self._use_cases.update(call.conn, call.scope, sent.id, changes, expected(sent))
        return rpc.UpdateCommunicationResponse(communication=communication_message(resource))

    async def DeleteCommunication(
        self, request: rpc.DeleteCommunicationRequest, call: Call
    ) -> rpc.DeleteCommunicationResponse:
        await communications.delete(call.conn, call.scope, request.communication_id, expected(request))
        return rpc.DeleteCommunicationResponse()

    @tells_all
    async def PreviewCommunication(
        self, request: rpc.PreviewCommunicationRequest, call: Call
    ) -> rpc.PreviewCommunicationResponse:
        preview = await self._previews.show(call.conn, call.scope, asked_preview(request))
        return rpc.PreviewCommunicationResponse(
            channel=preview.channel,
            content_revision=preview.content_revision,
            subject=preview.subject,
            body=preview.body,
            settings=struct_of(preview.settings),
        )

    @tells_all
    async def SendTestCommunication(
        self, request: rpc.SendTestCommunicationRequest, call: Call
    ) -> rpc.SendTestCommunicationResponse:
        test = await self._tests.send(call.conn, call.scope, asked_test(request), list(request.addresses))
        return rpc.SendTestCommunicationResponse(test_send=sent_test_message(test))

    async def GetTestSend(self, request: rpc.GetTestSendRequest, call: Call) -> rpc.GetTestSendResponse:
        test = await sent_tests.get(call.conn, call.scope, request.test_send_id)
        return rpc.GetTestSendResponse(test_send=sent_test_message(test))

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
            revisions=[revision_message(revision) for revision in revisions],
            next_page_token=page_token(request, end) if end is not None else "",
        )
