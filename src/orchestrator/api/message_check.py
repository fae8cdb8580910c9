"""Requests as messages: what is wrong with them beyond their form, the same for both transports.

Paths are those of JSON and start at the body: the resource in calls that create or change one, else the request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from google.api.field_behavior_pb2 import OUTPUT_ONLY, REQUIRED
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.unknown_fields import UnknownFieldSet

from orchestrator.api import field_masks
from orchestrator.api.descriptors import behaves, descriptor_of, enum_in, given, is_map, message_in
from orchestrator.api.field_limits import (
    MAX_STRUCT_DEPTH,
    Bytes,
    Characters,
    Id,
    integer_limit,
    list_limit,
    request_bytes,
    text_limit,
)
from orchestrator.api.json_decode import unrelated
from orchestrator.api.json_encode import encode
from orchestrator.api.json_enums import words
from orchestrator.api.json_predicates import predicate_to_document
from orchestrator.api.json_text import tell, text_fault, value_faults
from orchestrator.api.json_values import check_duration, check_time, struct_to_json
from orchestrator.api.predicate_fields import about_of
from orchestrator.api.request_shapes import Shape, shape_of
from orchestrator.domain import attributes, journey_form
from orchestrator.domain.ids import id_fault
from orchestrator.predicates.faults import Fault, Wrong, under
from orchestrator.predicates.parse import parse as parse_predicate

#: (value, path, faults): looks at one value of one field.
_Look = Callable[[Any, str, list[Fault]], None]

_MAX_MASK_PATHS = 100
_PREDICATE_DEPTH = 100


def check_message(request: Message) -> list[Fault]:
    """Everything that is wrong with a request of one of our RPCs, whatever transport it came by.

    Also brings it into the one form in which handlers see it: output-only fields are cleared, a resource that is not
    there is an empty one, and `update_mask` names what to change: never nothing for everything, never `*`, no field
    that cannot be changed, each path as the contract spells it.
    """
    descriptor = descriptor_of(request)
    if request.ByteSize() > (most := request_bytes(descriptor)):
        return [Fault(path="", reason="TOO_LARGE", message=f"a request has at most {most} bytes")]
    shape = shape_of(descriptor)
    faults = list(_unknown_fields(request, shape))
    if shape.body is not None:
        getattr(request, shape.body).SetInParent()
    is_update = "update_mask" in descriptor.fields_by_name
    looks = _plan(descriptor, False).looks
    for field, value in given(request):
        if field.name == shape.body:
            _walk(value, "", faults, _plan(message_in(field), is_update))
        else:
            looks[field.number](value, field.json_name, faults)
    for path in _needed(descriptor, shape):
        at = shape.json_path(descriptor, path)
        if not field_masks.populated(request, path) and all(fault.path != at for fault in faults):
            faults.append(_required(at))
    if is_update:
        assert shape.body is not None, "updates carry their resource"
        faults += _spell_out(request, getattr(request, shape.body))
    return faults


def divide(request: Message, faults: list[Fault]) -> tuple[list[Fault], dict[int, list[Fault]]]:
    """What is wrong with the request as a whole, and with each of those items that stand for themselves, by place."""
    items = shape_of(descriptor_of(request)).items
    whole: list[Fault] = []
    by_item: dict[int, list[Fault]] = {}
    for fault in faults:
        if items is not None and fault.path.startswith(f"{items}["):
            place = int(fault.path[len(items) + 1 :].split("]", 1)[0])
            by_item.setdefault(place, []).append(fault)
        else:
            whole.append(fault)
    return whole, by_item


@cache
def _needed(request: Descriptor, shape: Shape) -> tuple[str, ...]:
    """The fields of the request itself that must have a value."""
    required = {field.name for field in request.fields if behaves(field, REQUIRED)}
    return tuple(sorted((required | set(shape.named)) - {shape.body}))


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to look at a message. Fields without a look are output-only."""

    looks: dict[int, _Look]
    required: tuple[FieldDescriptor, ...]
    names: dict[int, str]
    definition: bool


@cache
def _plan(message: Descriptor, partial: bool) -> _Plan:
    """`partial`: fields that are not there are not to be changed."""
    given = [field for field in message.fields if not behaves(field, OUTPUT_ONLY)]
    return _Plan(
        looks={field.number: _look_of(field, partial) for field in given},
        required=() if partial else tuple(field for field in given if behaves(field, REQUIRED)),
        names={field.number: field.json_name for field in given},
        definition=message.full_name == "orchestrator.v1.JourneyDefinition",
    )


def _walk(message: Message, path: str, faults: list[Fault], plan: _Plan) -> None:
    earlier = len(faults)
    present = set()
    for field, value in given(message):
        look = plan.looks.get(field.number)
        if look is None:
            message.ClearField(field.name)
            continue
        present.add(field.number)
        look(value, under(path, plan.names[field.number]), faults)
    for field in plan.required:
        if field.number not in present:
            faults.append(_required(under(path, field.json_name)))
    if plan.definition:
        document = encode(message) if len(faults) == earlier else None
        if document is not None:
            faults += journey_form.parse(document, path)[1]


def _required(path: str) -> Fault:
    return Fault(path=path, reason="REQUIRED", message="must be given")


def _look_of(field: FieldDescriptor, partial: bool) -> _Look:
    return _list_look(field) if field.is_repeated else _value_look(field, partial)


def _list_look(field: FieldDescriptor) -> _Look:
    most, look_at = list_limit(field), _value_look(field, False)

    def look(elements: Any, path: str, faults: list[Fault]) -> None:
        if len(elements) > most:
            faults.append(Fault(path=path, reason="TOO_LARGE", message=f"has at most {most} elements"))
            return
        for index, element in enumerate(elements):
            look_at(element, f"{path}[{index}]", faults)

    return look


def _value_look(field: FieldDescriptor, partial: bool) -> _Look:
    if field.message_type is not None:
        return _message_look(field, partial)
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _text_look(field)
        case FieldDescriptor.TYPE_BOOL:
            return _nothing_to_see
        case FieldDescriptor.TYPE_ENUM:
            return _enum_look(field)
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return _integer_look(field)
        case FieldDescriptor.TYPE_DOUBLE:
            return _look_at_double
        case _:
            raise NotImplementedError(f"{field.full_name} has a type that this contract does not use")


def _message_look(field: FieldDescriptor, partial: bool) -> _Look:
    match message_in(field).full_name:
        case "google.protobuf.Timestamp":
            return _collecting(check_time)
        case "google.protobuf.Duration":
            return _collecting(check_duration)
        case "google.protobuf.Struct":
            return _look_at_struct
        case "google.protobuf.FieldMask":
            return _look_at_mask
        case "orchestrator.v1.Predicate":
            return _predicate_look(field)
    plan = _plan(message_in(field), partial and field_masks.is_divisible(message_in(field)))

    def look(value: Any, path: str, faults: list[Fault]) -> None:
        _walk(value, path, faults, plan)

    return look


def _collecting(check: Callable[[Any, str], None]) -> _Look:
    def look(value: Any, path: str, faults: list[Fault]) -> None:
        try:
            check(value, path)
        except Wrong as wrong:
            faults.append(wrong.fault)

    return look


def _nothing_to_see(value: Any, path: str, faults: list[Fault]) -> None:
    pass


def _text_look(field: FieldDescriptor) -> _Look:
    limit = text_limit(field)
    is_required = behaves(field, REQUIRED)

    def look(text: str, path: str, faults: list[Fault]) -> None:
        if fault := text_fault(text, path):
            faults.append(fault)
            return
        match limit:
            case Id():
                # Empty elements of lists come here; empty fields do not.
                if fault := id_fault(text, path):
                    faults.append(fault)
            case Characters(most) if len(text) > most:
                faults.append(Fault(path=path, reason="TOO_LONG", message=f"has at most {most} characters"))
            case Bytes(most) if len(text) > most or len(text.encode()) > most:
                faults.append(Fault(path=path, reason="TOO_LONG", message=f"has at most {most} bytes of UTF-8"))
            case _ if is_required and not text.strip():
                faults.append(_required(path))

    return look


def _enum_look(field: FieldDescriptor) -> _Look:
    known = words(enum_in(field))

    def look(number: int, path: str, faults: list[Fault]) -> None:
        if number not in known:
            text = f"must be one of {', '.join(known.values())}"
            faults.append(Fault(path=path, reason="UNKNOWN_ENUM_VALUE", message=text))

    return look


def _integer_look(field: FieldDescriptor) -> _Look:
    limit = integer_limit(field)

    def look(number: int, path: str, faults: list[Fault]) -> None:
        if not limit.least <= number <= limit.most:
            text = f"must be {limit.least} to {limit.most}"
            faults.append(Fault(path=path, reason="OUT_OF_RANGE", message=text))

    return look


def _look_at_double(number: float, path: str, faults: list[Fault]) -> None:
    if not math.isfinite(number):
        faults.append(Fault(path=path, reason="INVALID_VALUE", message=f"{number} is not a JSON number"))


def _look_at_struct(struct: Struct, path: str, faults: list[Fault]) -> None:
    document = struct_to_json(struct)
    if _is_plain(document):
        return
    within = list(value_faults(document, path, max_depth=MAX_STRUCT_DEPTH))
    if not within and (fault := attributes.size_fault(document, path)):
        within.append(fault)
    faults += within


def _is_plain(document: dict[str, Any]) -> bool:
    """True if a glance at the text shows that nothing can be wrong with it: nearly always."""
    try:
        text = orjson.dumps(document, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:
        return False
    return (
        len(text) <= attributes.MAX_BYTES
        and text.count(b'":') <= attributes.MAX_KEYS
        and text.count(b"{") + text.count(b"[") <= MAX_STRUCT_DEPTH
        and b"\\u0000" not in text
    )


def _look_at_mask(mask: Any, path: str, faults: list[Fault]) -> None:
    if len(mask.paths) > _MAX_MASK_PATHS:
        faults.append(Fault(path=path, reason="TOO_LARGE", message=f"has at most {_MAX_MASK_PATHS} paths"))


def _predicate_look(field: FieldDescriptor) -> _Look:
    about = about_of(field)

    def look(predicate: Any, path: str, faults: list[Fault]) -> None:
        document = predicate_to_document(predicate)
        within = list(value_faults(document, path, max_depth=_PREDICATE_DEPTH))
        within += unrelated(within, parse_predicate(document, path, about=about)[1])
        faults += within

    return look


def _spell_out(request: Any, resource: Message) -> list[Fault]:
    """Make `update_mask` say what is to be changed; returns what is wrong with it, or with what it asks for."""
    faults = []
    descriptor = descriptor_of(resource)
    asked = list(request.update_mask.paths[:_MAX_MASK_PATHS])
    paths: dict[str, None] = {}
    if not asked:
        paths |= dict.fromkeys(field_masks.paths_of_message(resource))
    for path in asked:
        resolved = field_masks.resolve(descriptor, path)
        if path == field_masks.WHOLE:
            paths |= dict.fromkeys(field_masks.changeable_paths(descriptor))
        elif resolved is None:
            faults.append(Fault(path="updateMask", reason="UNKNOWN_FIELD", message=f"there is no field {tell(path)}"))
        elif field_masks.leads_to_changeable(descriptor, resolved):
            paths[resolved] = None
    request.update_mask.Clear()
    request.update_mask.paths.extend(sorted(paths))
    for path in paths:
        field = descriptor.fields_by_name.get(path)
        if field is not None and behaves(field, REQUIRED) and not field_masks.populated(resource, path):
            faults.append(_required(field.json_name))
    return faults


def _unknown_fields(request: Message, shape: Shape) -> Iterator[Fault]:
    """Fields that came over the wire and are not in the contract."""
    known = type(request)()
    known.CopyFrom(request)
    known.DiscardUnknownFields()
    if known.ByteSize() == request.ByteSize():
        return
    pending: list[tuple[Message, str]] = [(request, "")]
    while pending:
        message, path = pending.pop()
        unknown = UnknownFieldSet(message)
        for place in range(len(unknown)):
            at = under(path, f"#{unknown[place].field_number}")
            yield Fault(path=at, reason="UNKNOWN_FIELD", message="this version of the contract has no such field")
        for field, value in given(message):
            if field.message_type is None:
                continue
            at = path if not path and field.name == shape.body else under(path, field.json_name)
            if not field.is_repeated:
                pending.append((value, at))
            elif not is_map(field):
                pending.extend((element, under(at, index)) for index, element in enumerate(value))
