"""Trigger contracts as messages."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.trigger_contract import MAX_EVENT_AGE, Contract, Transition
from orchestrator.v1 import trigger_contract_pb2 as pb

_WORDS: dict[int, Transition] = {
    pb.TriggerContract.TRANSITION_ENTERED: "entered",
    pb.TriggerContract.TRANSITION_LEFT: "left",
}
_TRANSITIONS = {
    None: pb.TriggerContract.TRANSITION_UNSPECIFIED,
    "entered": pb.TriggerContract.TRANSITION_ENTERED,
    "left": pb.TriggerContract.TRANSITION_LEFT,
}


def contract_content(message: pb.TriggerContract) -> Contract:
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


def authored_contract(contract_id: str, content: Contract) -> pb.TriggerContract:
    """What its author wrote, without what the server made of it."""
    return pb.TriggerContract(
        id=contract_id,
        name=content.name,
        event_name=content.event_name or "",
        predicate=predicate_from_document(content.predicate) if content.predicate is not None else None,
        entry_key_path=content.entry_key_path or "",
        max_event_age=to_duration(content.max_event_age),
        segment_id=content.segment_id or "",
        transition=_TRANSITIONS[content.transition],
        include_definition_changes=content.include_definition_changes,
    )


def contract_message(resource: Resource[Contract], missing_segments: Collection[str]) -> pb.TriggerContract:
    message = authored_contract(resource.id, resource.content)
    if message.segment_id in missing_segments:
        message.missing_segment_id = message.segment_id
    message.create_time.CopyFrom(to_timestamp(resource.created_at))
    message.update_time.CopyFrom(to_timestamp(resource.updated_at))
    message.etag = etag_of(resource.revision, resource.updated_at)
    return message
