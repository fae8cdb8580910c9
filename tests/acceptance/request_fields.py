"""Every field of a request, from its descriptor: where it stands in JSON, in the URL, on the wire, and in faults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.api.annotations_pb2 import http
from google.api.field_behavior_pb2 import OUTPUT_ONLY, REQUIRED
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.internal import encoder
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from orchestrator.api.descriptors import behaves, is_inline, message_in, owner_of
from orchestrator.api.json_decode import decode_stored
from orchestrator.api.request_shapes import shape_of, url_of
from orchestrator.predicates.faults import under
from tests.acceptance.good_calls import Json

VARIABLE = re.compile(r"\{([a-z_.]+)\}")

PREDICATE = "orchestrator.v1.Predicate"
WINDOW = "orchestrator.v1.Window"
VALUE = "google.protobuf.Value"
STRUCT = "google.protobuf.Struct"
TIMESTAMP = "google.protobuf.Timestamp"
DURATION = "google.protobuf.Duration"
FIELD_MASK = "google.protobuf.FieldMask"
#: Messages whose fields are no fields to callers: they are written in a form of their own.
GRAPH = "orchestrator.v1.JourneyGraph"
EXPORT = "orchestrator.v1.PinpointExport"
LEAVES = frozenset({VALUE, STRUCT, TIMESTAMP, DURATION, FIELD_MASK, GRAPH, EXPORT})

#: Resources in bundles: each field of theirs is tried in the calls of their own, which check it in the same way.
_BUNDLED = frozenset({
    "orchestrator.v1.Bundle.audiences",
    "orchestrator.v1.Bundle.communications",
    "orchestrator.v1.Bundle.segments",
    "orchestrator.v1.Bundle.settings",
    "orchestrator.v1.Bundle.trigger_contracts",
    "orchestrator.v1.BundledJourney.definition",
    "orchestrator.v1.BundledJourney.draft",
    "orchestrator.v1.BundledJourney.goal",
})  # fmt: skip


def is_passed_by(field: FieldDescriptor) -> bool:
    """Whether what is inside the field is tried elsewhere, or is no field to callers."""
    return field.message_type is None or field.message_type.full_name in LEAVES or field.full_name in _BUNDLED


@dataclass(frozen=True, slots=True)
class Hop:
    """Into a field; `index` into its first or a later element when it is a list that is passed through."""

    field: FieldDescriptor
    index: int | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """A field of an RPC's request, with a good request (message, and document) in which all that surrounds it is."""

    rpc: MethodDescriptor
    hops: tuple[Hop, ...]
    request: Message
    document: Json

    @property
    def field(self) -> FieldDescriptor:
        return self.hops[-1].field

    @property
    def kind(self) -> str:
        """`list`, the full name of a leaf, predicate or window, `message`, or the type of what is no message."""
        field = self.field
        if field.is_repeated:
            return "list"
        if field.message_type is not None:
            name = str(field.message_type.full_name)
            return name if name in LEAVES or name in (PREDICATE, WINDOW) else "message"
        return _SCALARS[field.type]

    @cached_property
    def name(self) -> str:
        """`CreateAudience audience.predicate.all_of.clauses[0]…`: what it is called in reports."""
        parts = [hop.field.name if hop.index is None else f"{hop.field.name}[{hop.index}]" for hop in self.hops]
        return f"{self.rpc.name} {'.'.join(parts)}"

    @property
    def is_given(self) -> bool:
        """Whether the good request has a value for it."""
        return any(field.number == self.field.number for field, _ in self.parent().ListFields())

    @property
    def is_output_only(self) -> bool:
        return any(behaves(hop.field, OUTPUT_ONLY) for hop in self.hops)

    @property
    def is_update(self) -> bool:
        return "update_mask" in self.rpc.input_type.fields_by_name

    @property
    def is_named(self) -> bool:
        """Whether every URL of the call has a value for it."""
        return ".".join(hop.field.name for hop in self.hops) in shape_of(self.rpc.input_type).named

    @property
    def is_required(self) -> bool:
        return behaves(self.field, REQUIRED) or self.is_named

    @property
    def is_body(self) -> bool:
        """Whether this is the resource that stands for the body in calls that create or change one."""
        return len(self.hops) == 1 and self.field.name == shape_of(self.rpc.input_type).body

    @property
    def is_inline(self) -> bool:
        return is_inline(self.field)

    @property
    def is_alternative(self) -> bool:
        """Whether JSON writes the field as a kind of what surrounds it, and not as a member."""
        owner = owner_of(self.field).full_name
        return owner == WINDOW or (owner == PREDICATE and self.field.name != "negation")

    @cached_property
    def json_way(self) -> tuple[str | int, ...]:
        """The way to it in the request's document."""
        return _json_way(self.hops)

    @cached_property
    def path(self) -> str:
        """By which faults of it are told: in JSON spelling, from the body on."""
        return self._from_body(self.json_way)

    @cached_property
    def wire_path(self) -> str:
        """By which fields that the contract does not have are told, in the message that surrounds this field."""
        return self._from_body(_wire_way(self.hops[:-1]))

    @cached_property
    def wire_path_within(self) -> str:
        """The same for fields inside this one."""
        return self._from_body(_wire_way(self.hops))

    def _from_body(self, way: tuple[str | int, ...]) -> str:
        body = shape_of(self.rpc.input_type).body
        if way and body is not None and way[0] == self.rpc.input_type.fields_by_name[body].json_name:
            way = way[1:]
        path = ""
        for part in way:
            path = under(path, part)
        return path

    @property
    def in_predicate(self) -> bool:
        """Whether the language of predicates, and not the contract, says what is wrong with it."""
        return any(owner_of(hop.field).full_name == PREDICATE for hop in self.hops)

    @property
    def dotted(self) -> str:
        """The way through the contract, without places in lists."""
        return ".".join(hop.field.name for hop in self.hops)

    def wire(self, replacement: bytes) -> bytes:
        """The request with these bytes, tag and all, in place of the field."""
        return _wire(self.request, self.hops, replacement)

    def parent(self) -> Any:
        """The message that has the field."""
        message: Any = self.request
        for hop in self.hops[:-1]:
            message = getattr(message, hop.field.name)
            if hop.index is not None:
                message = message[hop.index]
        return message


_SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "integer",
    FieldDescriptor.TYPE_INT64: "integer",
    FieldDescriptor.TYPE_DOUBLE: "double",
}


def message_of(rpc: MethodDescriptor, document: Json) -> Message:
    """The message of a good document; predicates may stand where they must not."""
    return decode_stored(GetMessageClass(rpc.input_type), document)


def places(rpc: MethodDescriptor, documents: list[Json]) -> list[Place]:
    """Every field of the RPC's request once, where it is given; else where all that surrounds it is.

    Predicates hold predicates: in each of them a field is met once for each kind of node that has it.
    """
    found: dict[tuple[str, ...], Place] = {}
    for document in documents:
        request = message_of(rpc, document)
        for hops in _walk(rpc.input_type, request, ()):
            place = Place(rpc, hops, request, document)
            known = found.get(_key(hops))
            if known is None or (place.is_given and not known.is_given):
                found[_key(hops)] = place
    return list(found.values())


def _walk(descriptor: Descriptor, message: Any, above: tuple[Hop, ...]) -> Iterator[tuple[Hop, ...]]:
    for field in descriptor.fields:
        hops = (*above, Hop(field))
        yield hops
        if is_passed_by(field):
            continue
        if field.is_repeated:
            for index, element in enumerate(getattr(message, field.name)):
                yield from _walk(message_in(field), element, (*above, Hop(field, index)))
        elif message.HasField(field.name):
            yield from _walk(message_in(field), getattr(message, field.name), hops)


def _key(hops: tuple[Hop, ...]) -> tuple[str, ...]:
    """The names along the way; of those inside a predicate, the ones from the innermost node on."""
    owners = [owner_of(hop.field).full_name for hop in hops]
    if PREDICATE not in owners:
        return tuple(hop.field.name for hop in hops)
    first, last = owners.index(PREDICATE), len(owners) - 1 - owners[::-1].index(PREDICATE)
    return tuple(hop.field.name for hop in (*hops[:first], *hops[last:]))


def declared_fields(descriptor: Descriptor) -> set[str]:
    """The full names of all fields that a message of this kind can hold, at any depth."""
    pending, seen, names = [descriptor], {descriptor.full_name}, set()
    while pending:
        for field in pending.pop().fields:
            names.add(str(field.full_name))
            inside = field.message_type
            if inside is not None and not is_passed_by(field) and inside.full_name not in seen:
                seen.add(inside.full_name)
                pending.append(inside)
    return names


def _json_way(hops: tuple[Hop, ...]) -> tuple[str | int, ...]:
    way: list[str | int] = []
    for hop in hops:
        owner = owner_of(hop.field).full_name
        if owner == PREDICATE and hop.field.name == "negation":
            way.append("clause")
        elif owner not in (PREDICATE, WINDOW) and not is_inline(hop.field):
            way.append(hop.field.json_name)
        if hop.index is not None:
            way.append(hop.index)
    return tuple(way)


def _wire_way(hops: tuple[Hop, ...]) -> tuple[str | int, ...]:
    way: list[str | int] = []
    for hop in hops:
        if not is_inline(hop.field):
            way.append(hop.field.json_name)
        if hop.index is not None:
            way.append(hop.index)
    return tuple(way)


def _wire(message: Any, hops: tuple[Hop, ...], replacement: bytes) -> bytes:
    hop, *rest = hops
    others = type(message)()
    others.CopyFrom(message)
    others.ClearField(hop.field.name)
    content: bytes = others.SerializeToString()
    if not rest:
        return content + replacement
    member = getattr(message, hop.field.name)
    for index, element in enumerate(member if hop.index is not None else [member]):
        is_passed = hop.index in (None, index)
        inside = _wire(element, tuple(rest), replacement) if is_passed else element.SerializeToString()
        content += length_delimited(hop.field.number, inside)
    return content


def varint(number: int) -> bytes:
    """Ten bytes for what is negative, as in protobuf."""
    parts: list[bytes] = []
    write = encoder._EncodeVarint if number >= 0 else encoder._EncodeSignedVarint  # type: ignore[attr-defined]
    write(parts.append, number, False)
    return b"".join(parts)


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def length_delimited(number: int, content: bytes) -> bytes:
    return tag(number, 2) + varint(len(content)) + content


def bindings(rpc: MethodDescriptor) -> list[HttpRule]:
    rule = rpc.GetOptions().Extensions[http]
    return [rule, *rule.additional_bindings]


def variables(rule: HttpRule) -> list[str]:
    return VARIABLE.findall(url_of(rule))
