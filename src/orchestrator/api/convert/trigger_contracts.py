"""Trigger contracts as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.api.json_predicates import predicate_from_document, predicate_to_document
from orchestrator.domain.etag import etag_of
from orchestrator.domain.resource import Resource
from orchestrator.domain.trigger_contract import MAX_EVENT_AGE, Contract
from orchestrator.v1 import trigger_contract_pb2 as pb


def contract_content(message: pb.TriggerContract) -> Contract:
    return Contract(
        name=message.name,
        event_name=message.event_name,
        predicate=predicate_to_document(message.predicate) if message.HasField("predicate") else None,
        entry_key_path=message.entry_key_path or None,
        max_event_age=message.max_event_age.ToTimedelta() if message.HasField("max_event_age") else MAX_EVENT_AGE,
    )


def contract_message(resource: Resource[Contract]) -> pb.TriggerContract:
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
