"""Segments as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.segment import DYNAMIC, STATIC, SYSTEM, Segment
from orchestrator.v1 import segment_pb2 as pb

_KINDS = {
    STATIC: pb.Segment.Kind.KIND_STATIC,
    DYNAMIC: pb.Segment.Kind.KIND_DYNAMIC,
    SYSTEM: pb.Segment.Kind.KIND_SYSTEM,
}
_WORDS = {number: word for word, number in _KINDS.items()}


def segment_content(message: pb.Segment) -> Segment:
    has_rules = message.HasField("rules")
    return Segment(
        kind=_WORDS.get(message.kind, DYNAMIC if has_rules else STATIC),
        name=message.name,
        description=message.description,
        predicate=predicate_to_document(message.rules) if has_rules else None,
    )


def segment_message(resource: Resource[Segment]) -> pb.Segment:
    content = resource.content
    return pb.Segment(
        id=resource.id,
        name=content.name,
        description=content.description,
        kind=_KINDS[content.kind],
        rules=predicate_from_document(content.predicate) if content.predicate is not None else None,
        create_time=to_timestamp(resource.created_at),
        update_time=to_timestamp(resource.updated_at),
        etag=etag_of(resource.revision, resource.updated_at),
    )
