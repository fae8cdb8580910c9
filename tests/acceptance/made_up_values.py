"""Values for fields of messages and members of JSON, made up by Hypothesis from descriptors and from a list of evil."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value
from hypothesis import strategies as st

from orchestrator.api.descriptors import enum_in, is_map, message_in
from orchestrator.api.field_limits import Bytes, Characters, Id, integer_limit, list_limit, text_limit
from tests.acceptance.request_fields import DURATION, EXPORT, FIELD_MASK, GRAPH, STRUCT, TIMESTAMP, VALUE
from tests.fuzzing.mutants import has, places_in
from tests.hostile import hostile

#: Levels of messages within each other that are filled; below them, fields stay empty.
_DEPTH = 4

EVIL = tuple(dict.fromkeys((*hostile("texts"), *hostile("injections"), *hostile("forbidden_urls"))))
#: Those that a message can hold: protobuf keeps no halves of surrogate pairs.
_WRITABLE = tuple(text for text in EVIL if not any("\ud800" <= character <= "\udfff" for character in text))

_SECONDS = (0, 1, -1, 59, 1_772_366_400, 4_000_000_000, -2_208_988_800, 7_289_654_400, 253_402_300_800, 2**53, -(2**63))
_NANOS = (0, 1, -1, 999_999_999, 10**9, 500_000_000, -(2**31))
_SPANS = (0, 1, -1, 60, 3600, 86_400, 604_800, 63_072_000, 315_576_000_001, 2**53, 2**63 - 1)
_DOUBLES = (0.0, -0.0, 0.5, 1.0, -1.0, 100.0, 1e-320, 1e308, 2.0**53 + 2, float("nan"), float("inf"), float("-inf"))
_MASKS = ("name", "description", "*", "id", "etag", "definition.steps", "settings", "predicate.kind")
_INTEGERS = (0, 1, -1, 2, 10, 100, 1000, 2**31 - 1, -(2**31), 2**53, 2**53 + 1, 2**63 - 1, -(2**63))

_evil = st.sampled_from(EVIL)
_writable = st.sampled_from(_WRITABLE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)

#: Any JSON, little of it; numbers that are none are among them, and half characters.
any_json: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(_INTEGERS)
    | st.sampled_from([10**50, 2**64])
    | st.sampled_from(_DOUBLES)
    | _evil,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(_evil, inside, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The JSON document with one to three things in it replaced, taken away, renamed, doubled or moved."""
    changed = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_in(changed))
        if not places:
            return draw(any_json)
        holder, key = draw(st.sampled_from(places))
        match draw(st.integers(0, 5)):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder[key:key] = [holder[key]] * draw(st.sampled_from([1, 2, 40]))
            case 1:
                holder[draw(_evil)] = holder.pop(key)
            case 2:
                other, at = draw(st.sampled_from(places))
                # It may have been taken away, or have become another thing.
                holder[key] = json.loads(json.dumps(other[at])) if has(other, at) else None
            case _:
                holder[key] = draw(any_json)
    return changed


@st.composite
def filled(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """A message of this kind with some of its fields, and nothing about it that has to be right."""
    message: Message = GetMessageClass(descriptor)()
    _fill(draw, message, descriptor, 0)
    return message


def put(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int = 0) -> None:
    """Write something else into a field of the message."""
    message.ClearField(field.name)
    if field.is_repeated:
        elements = getattr(message, field.name)
        if is_map(field):
            raise NotImplementedError(f"{field.full_name} is a map in a request")
        for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
            if field.message_type is not None:
                _fill_in(draw, elements.add(), message_in(field), depth + 1)
            else:
                elements.append(draw(_single(field)))
        most = list_limit(field)
        if len(elements) and draw(st.integers(0, 30)) == 0:
            elements.extend([elements[0]] * (most + 1 - len(elements)))
    elif field.message_type is not None:
        inside = getattr(message, field.name)
        inside.SetInParent()
        _fill_in(draw, inside, message_in(field), depth + 1)
    else:
        setattr(message, field.name, draw(_single(field)))


def _fill(draw: st.DrawFn, message: Any, descriptor: Descriptor, depth: int) -> None:
    fields = list(descriptor.fields)
    if not fields or depth > _DEPTH:
        return
    for field in draw(st.lists(st.sampled_from(fields), max_size=6 - depth, unique_by=lambda field: field.number)):
        put(draw, message, field, depth)


def _fill_in(draw: st.DrawFn, message: Any, descriptor: Descriptor, depth: int) -> None:
    special = _SPECIAL.get(descriptor.full_name)
    if special is not None:
        special(draw, message)
    else:
        _fill(draw, message, descriptor, depth)


def _single(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _text(field)
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_ENUM:
            return st.sampled_from([*enum_in(field).values_by_number, 99, -1, 2**31 - 1])
        case FieldDescriptor.TYPE_DOUBLE:
            return st.sampled_from(_DOUBLES) | st.floats(0, 1)
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            limit = integer_limit(field)
            bits = 31 if field.type == FieldDescriptor.TYPE_INT32 else 63
            near = (limit.least - 1, limit.least, limit.most, limit.most + 1)
            fitting = [number for number in (*_INTEGERS, *near) if -(2**bits) <= number < 2**bits]
            return st.sampled_from(fitting)
        case _:
            raise NotImplementedError(f"{field.full_name} has a type that this contract does not use")


def _text(field: FieldDescriptor) -> st.SearchStrategy[str]:
    match text_limit(field):
        case Id():
            edges = ["a" * 128, "a" * 129]
        case Characters(most):
            edges = ["a" * most, "é" * (most + 1)]
        case Bytes(most):
            edges = ["a" * most, "é" * (most // 2) + "ab"]
    # Long ones take their time, and are few.
    return st.one_of(*[_writable] * 7, st.sampled_from(edges))


def _json_into(draw: st.DrawFn, message: Any) -> None:
    """Graphs and exports: JSON as text, and what is none."""
    message.json = draw(any_json.map(json.dumps) | _writable)


def _time(draw: st.DrawFn, message: Any) -> None:
    message.seconds, message.nanos = draw(st.sampled_from(_SECONDS)), draw(st.sampled_from(_NANOS))


def _span(draw: st.DrawFn, message: Any) -> None:
    message.seconds, message.nanos = draw(st.sampled_from(_SPANS)), draw(st.sampled_from(_NANOS))


def _mask(draw: st.DrawFn, message: Any) -> None:
    message.paths.extend(draw(st.lists(st.sampled_from(_MASKS) | _writable, max_size=3)))


def _struct(draw: st.DrawFn, message: Struct) -> None:
    for name, value in draw(st.dictionaries(_writable, any_json, max_size=3)).items():
        _value_of(message.fields[name], value)


def _value(draw: st.DrawFn, message: Value) -> None:
    _value_of(message, draw(any_json))


def _value_of(message: Value, value: Any) -> None:
    match value:
        case None:
            message.null_value = NULL_VALUE
        case bool():
            message.bool_value = value
        case int() | float():
            message.number_value = float(value)
        case str():
            message.string_value = value.encode(errors="replace").decode()
        case list():
            message.list_value.SetInParent()
            for element in value:
                _value_of(message.list_value.values.add(), element)
        case dict():
            message.struct_value.SetInParent()
            for name, member in value.items():
                _value_of(message.struct_value.fields[name.encode(errors="replace").decode()], member)


_SPECIAL: dict[str, Callable[[st.DrawFn, Any], None]] = {
    TIMESTAMP: _time,
    DURATION: _span,
    FIELD_MASK: _mask,
    STRUCT: _struct,
    VALUE: _value,
    GRAPH: _json_into,
    EXPORT: _json_into,
}
