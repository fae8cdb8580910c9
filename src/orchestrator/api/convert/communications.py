"""Communications and their revisions as messages."""

from __future__ import annotations

from orchestrator.api.convert.categories import category_number, category_word
from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_values import struct_of, struct_to_json
from orchestrator.application.previews import Asked
from orchestrator.domain.communication import Communication, Revision
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.sent_test import SentTest
from orchestrator.v1 import communication_pb2 as pb
from orchestrator.v1 import communication_service_pb2 as rpc
from orchestrator.v1 import test_send_pb2 as test_pb


def communication_content(message: pb.Communication) -> Communication:
    return Communication(
        name=message.name,
        channel=message.channel,
        category=category_word(message.category, unspecified=""),
        subject=message.subject,
        body=message.body,
        settings=struct_to_json(message.settings),
    )


def authored_communication(communication_id: str, content: Communication) -> pb.Communication:
    """What its author wrote, without what the server made of it."""
    return pb.Communication(
        id=communication_id,
        name=content.name,
        channel=content.channel,
        category=category_number(content.category),
        subject=content.subject,
        body=content.body,
        settings=struct_of(content.settings),
    )


def communication_message(resource: Resource[Communication]) -> pb.Communication:
    message = authored_communication(resource.id, resource.content)
    message.content_revision = resource.content.content_revision
    message.create_time.CopyFrom(to_timestamp(resource.created_at))
    message.update_time.CopyFrom(to_timestamp(resource.updated_at))
    message.etag = etag_of(resource.revision, resource.updated_at)
    return message


def asked_preview(request: rpc.PreviewCommunicationRequest) -> Asked:
    return _asked(request, show_values=request.show_values)


def asked_test(request: rpc.SendTestCommunicationRequest) -> Asked:
    return _asked(request, show_values=True)


def _asked(request: rpc.PreviewCommunicationRequest | rpc.SendTestCommunicationRequest, *, show_values: bool) -> Asked:
    return Asked(
        communication_id=request.communication_id,
        content_revision=request.content_revision,
        content=given_content(request.content) if request.HasField("content") else None,
        subject_id=request.subject_id,
        attributes=struct_to_json(request.attributes) if request.HasField("attributes") else None,
        entry=struct_to_json(request.entry),
        show_values=show_values,
    )


def given_content(message: pb.CommunicationContent) -> Communication:
    return Communication(
        name="-",  # it has none, and needs none
        channel=message.channel,
        category=category_word(message.category, unspecified=""),
        subject=message.subject,
        body=message.body,
        settings=struct_to_json(message.settings),
    )


def revision_message(revision: Revision) -> pb.CommunicationRevision:
    return pb.CommunicationRevision(
        communication_id=revision.communication_id,
        content_revision=revision.content_revision,
        channel=revision.content["channel"],
        category=category_number(revision.content["category"]),
        subject=revision.content["subject"],
        body=revision.content["body"],
        settings=struct_of(revision.content["settings"]),
        create_time=to_timestamp(revision.created_at),
    )


def sent_test_message(test: SentTest) -> test_pb.TestSend:
    return test_pb.TestSend(
        id=test.test_send_id,
        communication_id=test.communication_id,
        content_revision=test.content_revision,
        channel=test.channel,
        results=[test_pb.TestSend.Result(state=result.state, reason=result.reason or "") for result in test.results],
        request_time=to_timestamp(test.requested_at),
        end_time=to_timestamp(test.ended_at) if test.ended_at else None,
    )
