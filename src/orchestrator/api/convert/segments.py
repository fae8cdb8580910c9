"""Segments as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_timestamp
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.application.segments import State
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.segment import DYNAMIC, STATIC, SYSTEM, Member, Segment
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


def member_message(member: Member) -> pb.SegmentMember:
    since = to_timestamp(member.since) if member.since is not None else None
    return pb.SegmentMember(subject_id=member.subject_id, add_time=since)


def authored_segment(segment_id: str, content: Segment) -> pb.Segment:
    """What its author wrote, without what the server made of it."""
    return pb.Segment(
        id=segment_id,
        name=content.name,
        description=content.description,
        kind=_KINDS[content.kind],
        rules=predicate_from_document(content.predicate) if content.predicate is not None else None,
    )


def segment_message(resource: Resource[Segment], state: State) -> pb.Segment:
    message, fresh = authored_segment(resource.id, resource.content), state.freshness
    message.size = state.size
    message.building = fresh.building
    message.missing_cohort_id = state.broken or ""
    if fresh.evaluated_at is not None:
        message.last_evaluate_time.CopyFrom(to_timestamp(fresh.evaluated_at))
    message.last_entered_count = fresh.entered
    message.last_left_count = fresh.departed
    message.create_time.CopyFrom(to_timestamp(resource.created_at))
    message.update_time.CopyFrom(to_timestamp(resource.updated_at))
    message.etag = etag_of(resource.revision, resource.updated_at)
    return message
