"""What messages say about themselves, typed as it is: the stubs allow for two implementations of every descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from google.api.field_behavior_pb2 import FieldBehavior, field_behavior
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    return cast(Descriptor, message.DESCRIPTOR)


def fields_of(message: Message) -> Any:
    """The message by itself, for fields that only its descriptor knows of: many kinds of requests have them."""
    return message


def given(message: Message) -> list[tuple[FieldDescriptor, Any]]:
    """The fields of a message that are set, in order of their numbers."""
    return cast("list[tuple[FieldDescriptor, Any]]", message.ListFields())


def owner_of(field: FieldDescriptor) -> Descriptor:
    assert field.containing_type is not None, "extensions are no fields of ours"
    return field.containing_type


def message_in(field: FieldDescriptor) -> Descriptor:
    """The kind of message that a message field holds."""
    assert field.message_type is not None, f"{field.full_name} is no message"
    return field.message_type


def enum_in(field: FieldDescriptor) -> EnumDescriptor:
    """The enum whose values an enum field holds."""
    assert field.enum_type is not None, f"{field.full_name} is no enum"
    return field.enum_type


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def behaves(field: FieldDescriptor, behavior: FieldBehavior.ValueType) -> bool:
    """Whether the contract marks a field so: required, output-only."""
    return behavior in field.GetOptions().Extensions[field_behavior]


#: Message fields whose members stand in the JSON document of their owner, as authors write them.
_INLINE = frozenset({
    "orchestrator.v1.BundledJourney.definition",
    "orchestrator.v1.Journey.definition",
    "orchestrator.v1.JourneyVersion.definition",
})  # fmt: skip


def is_inline(field: FieldDescriptor) -> bool:
    """Whether JSON knows a field's members only, and not the field."""
    return field.full_name in _INLINE


def json_fields(message: Descriptor) -> Iterator[tuple[tuple[str, ...], FieldDescriptor]]:
    """The members of a message's JSON document: the way to the message that has the field, and the field."""
    for field in message.fields:
        if is_inline(field):
            for way, member in json_fields(message_in(field)):
                yield (field.name, *way), member
        else:
            yield (), field
