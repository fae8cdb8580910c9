"""Audiences as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.scope import Scope
from orchestrator.v1 import audience_pb2 as pb


def audience_content(message: pb.Audience) -> Audience:
    return Audience(
        name=message.name,
        description=message.description,
        subject_type=message.subject_type or END_USER,
        predicate=predicate_to_document(message.predicate) if message.HasField("predicate") else None,
    )


def authored_audience(audience_id: str, content: Audience) -> pb.Audience:
    """What its author wrote, without what the server made of it."""
    return pb.Audience(
        id=audience_id,
        name=content.name,
        description=content.description,
        subject_type=content.subject_type,
        predicate=predicate_from_document(content.predicate),
    )


def audience_message(resource: Resource[Audience], scope: Scope) -> pb.Audience:
    message = authored_audience(resource.id, resource.content)
    message.project_id = scope.project_id
    message.create_time.CopyFrom(to_timestamp(resource.created_at))
    message.update_time.CopyFrom(to_timestamp(resource.updated_at))
    message.etag = etag_of(resource.revision, resource.updated_at)
    return message
