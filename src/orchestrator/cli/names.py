"""What a resource names: other resources, by their ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from orchestrator.cli.kinds import AUDIENCE, COMMUNICATION, SEGMENT, TRIGGER_CONTRACT, Kind

#: The fields that hold an id of something else, wherever they stand.
_NAMING: Mapping[str, Kind] = {
    "orchestrator.v1.CohortLeaf.cohort_id": SEGMENT,
    "orchestrator.v1.TriggerContract.segment_id": SEGMENT,
    "orchestrator.v1.EntryCondition.segment_id": SEGMENT,
    "orchestrator.v1.JourneySchedule.segment_id": SEGMENT,
    "orchestrator.v1.SendStep.communication_id": COMMUNICATION,
    "orchestrator.v1.JourneyDefinition.audience_id": AUDIENCE,
    "orchestrator.v1.JourneyDefinition.trigger_contract_id": TRIGGER_CONTRACT,
}


def names_in(resource: Message) -> Mapping[Kind, set[str]]:
    """The ids that a resource, or a part of one, names itself. What these name in turn is not among them."""
    names: dict[Kind, set[str]] = defaultdict(set)
    for kind, name in _names(resource):
        names[kind].add(name)
    return names


def _names(message: Message) -> Iterator[tuple[Kind, str]]:
    for field, value in message.ListFields():
        if (kind := _NAMING.get(field.full_name)) is not None:
            yield kind, value
        elif field.message_type is not None and field.message_type.file.package == "orchestrator.v1":
            within: Any = value if field.is_repeated else (value,)
            for one in within:
                if isinstance(one, Message):  # and no key of a map
                    yield from _names(one)
