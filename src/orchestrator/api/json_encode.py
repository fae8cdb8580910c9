"""Messages as JSON documents.

Members are in lowerCamelCase or as the contract names them (`createdAt`). Unset messages, empty texts and unspecified
enums are absent; numbers, booleans, lists and maps are always there, except the lists that few fill.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from orchestrator.api.descriptors import descriptor_of, is_inline, is_map, message_in
from orchestrator.api.json_enums import words
from orchestrator.api.json_exports import export_to_document
from orchestrator.api.json_graphs import graph_to_document
from orchestrator.api.json_predicates import predicate_to_document
from orchestrator.api.json_values import struct_in_order, value_to_json, write_duration, write_time

_Writer = Callable[[Any], Any]

#: Absent when empty.
_QUIET_LISTS = frozenset({
    "orchestrator.v1.BundleChange.fields",
    "orchestrator.v1.BundleChange.warnings",
    "orchestrator.v1.BundledJourney.pinned_texts",
    "orchestrator.v1.EventResult.violations",
    "orchestrator.v1.Execution.sends",
    "orchestrator.v1.Execution.webhook_calls",
    "orchestrator.v1.Execution.visits",
    "orchestrator.v1.Explanation.clauses",
    "orchestrator.v1.Journey.enrolls_next",
    "orchestrator.v1.Journey.entry_problems",
    "orchestrator.v1.JourneyDefinition.exit_rules",
    "orchestrator.v1.PathOutcome.path",
    "orchestrator.v1.SimulatedStep.conditions",
    "orchestrator.v1.SimulatedStep.sleeps",
    "orchestrator.v1.Simulation.cuts",
    "orchestrator.v1.Simulation.overrides",
    "orchestrator.v1.TimeOfDay.weekdays",
})  # fmt: skip

#: Absent when empty, if this field of the same message has what they would have.
_REPLACED_LISTS = {"orchestrator.v1.JourneyDefinition.steps": "graph"}

_SPECIAL: dict[str, _Writer] = {
    "google.protobuf.Duration": write_duration,
    "google.protobuf.FieldMask": lambda mask: ",".join(mask.paths),
    "google.protobuf.Struct": struct_in_order,
    "google.protobuf.Timestamp": write_time,
    "google.protobuf.Value": value_to_json,
    "orchestrator.v1.JourneyGraph": graph_to_document,
    "orchestrator.v1.PinpointExport": export_to_document,
    "orchestrator.v1.Predicate": predicate_to_document,
}


def encode(message: Message) -> Any:
    """The document of a message: an object, or a text for times and durations. An enum's unknown number is null."""
    return _writer_of(descriptor_of(message))(message)


@cache
def _writer_of(descriptor: Descriptor) -> _Writer:
    if descriptor.full_name in _SPECIAL:
        return _SPECIAL[descriptor.full_name]
    # Made on first use: messages contain themselves.
    members: list[Callable[[Any, dict[str, Any]], None]] = []

    def write(message: Any) -> dict[str, Any]:
        if not members:
            members.extend(_member(field) for field in descriptor.fields)
        document: dict[str, Any] = {}
        for member in members:
            member(message, document)
        return document

    return write


def _member(field: FieldDescriptor) -> Callable[[Any, dict[str, Any]], None]:
    """Writes one field into the document, or leaves it out."""
    name, key, write = field.name, field.json_name, _value_writer(field)
    if is_inline(field):

        def write_inline(message: Any, document: dict[str, Any]) -> None:
            if message.HasField(name):
                document.update(write(getattr(message, name)))

        return write_inline
    if is_map(field):
        write_entry = _value_writer(message_in(field).fields_by_name["value"])

        def write_map(message: Any, document: dict[str, Any]) -> None:
            document[key] = {entry: write_entry(value) for entry, value in sorted(getattr(message, name).items())}

        return write_map
    if field.is_repeated:
        quiet, other = field.full_name in _QUIET_LISTS, _REPLACED_LISTS.get(field.full_name)

        def write_list(message: Any, document: dict[str, Any]) -> None:
            elements = [write(element) for element in getattr(message, name)]
            if elements or not (quiet or (other is not None and message.HasField(other))):
                document[key] = elements

        return write_list
    if field.has_presence:

        def write_present(message: Any, document: dict[str, Any]) -> None:
            if message.HasField(name):
                document[key] = write(getattr(message, name))

        return write_present
    leave_out = field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_ENUM)

    def write_value(message: Any, document: dict[str, Any]) -> None:
        value = getattr(message, name)
        if value or not leave_out:
            document[key] = write(value)

    return write_value


def _value_writer(field: FieldDescriptor) -> _Writer:
    if field.message_type is not None:
        return _writer_of(field.message_type)
    if field.enum_type is not None:
        return words(field.enum_type).get
    return _itself


def _itself(value: Any) -> Any:
    return value
