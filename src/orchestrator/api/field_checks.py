"""What is wrong with the fields of a message: sizes, ids, numbers, times, what must be there, what predicates mean.

A check for each kind of message is put together once, from its descriptor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import orjson
from google.api.field_behavior_pb2 import OUTPUT_ONLY, REQUIRED
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.struct_pb2 import Struct

from orchestrator.api.descriptors import behaves, enum_in, is_inline, message_in
from orchestrator.api.fault_relations import unrelated
from orchestrator.api.field_limits import (
    MAX_STRUCT_DEPTH,
    Bytes,
    Characters,
    Id,
    integer_limit,
    list_limit,
    text_limit,
)
from orchestrator.api.field_masks import is_divisible
from orchestrator.api.json_encode import encode
from orchestrator.api.json_enums import words
from orchestrator.api.json_exports import export_faults, export_to_document
from orchestrator.api.json_graphs import graph_faults, graph_to_document
from orchestrator.api.json_predicates import predicate_to_document
from orchestrator.api.json_text import text_fault, value_faults
from orchestrator.api.json_values import check_duration, check_time, struct_to_json
from orchestrator.api.predicate_fields import about_of, document_faults
from orchestrator.domain import attributes, journey_form
from orchestrator.domain.ids import id_fault
from orchestrator.predicates.faults import Fault, Wrong, under

#: (value, path, faults): looks at a message or a list.
Check = Callable[[Any, str, list[Fault]], None]
#: What is wrong with one value that is neither, without a path; None: nothing.
_Glance = Callable[[Any], Fault | None]

MAX_MASK_PATHS = 100


def required(path: str) -> Fault:
    return Fault(path=path, reason="REQUIRED", message="must be given")


@cache
def check_of(message: Descriptor, *, partial: bool = False, without: str | None = None) -> Check:
    """The check of a kind of message, which also clears its output-only fields.

    `partial`: what is not there is not to be changed, so nothing is required. `without` names a field to pass over.
    """
    if message.full_name in _SPECIAL:
        return _SPECIAL[message.full_name]
    fields = [field for field in message.fields if field.name != without]
    output_only = {field.number: field.name for field in fields if behaves(field, OUTPUT_ONLY)}
    inputs = [field for field in fields if field.number not in output_only]
    glances = {field.number: (field.json_name, _glance_of(field)) for field in inputs if _is_single(field)}
    checks = {
        field.number: (None if is_inline(field) else field.json_name, _check_within(field, partial))
        for field in inputs
        if not _is_single(field)
    }
    needed = {field.number: field.json_name for field in inputs if behaves(field, REQUIRED) and not partial}

    def check(value: Any, path: str, faults: list[Fault]) -> None:
        members = value.ListFields()
        for field, member in members:
            number = field.number
            if number in glances:
                name, glance = glances[number]
                if fault := glance(member):
                    faults.append(Fault(path=under(path, name), reason=fault.reason, message=fault.message))
            elif number in checks:
                inside, check_member = checks[number]
                check_member(member, path if inside is None else under(path, inside), faults)
            elif number in output_only:
                value.ClearField(field.name)
        if needed:
            present = {field.number for field, _ in members}
            faults.extend(required(under(path, name)) for number, name in needed.items() if number not in present)

    return _with_form(check) if message.full_name == "orchestrator.v1.JourneyDefinition" else check


def _is_single(field: FieldDescriptor) -> bool:
    return field.message_type is None and not field.is_repeated


def _with_form(check: Check) -> Check:
    """The check of a definition: that of its fields, and what they mean together."""

    def check_both(definition: Any, path: str, faults: list[Fault]) -> None:
        within: list[Fault] = []
        check(definition, path, within)
        faults += within
        try:
            document = encode(definition)
        except (OverflowError, ValueError):
            return  # A duration, or a time, that has no JSON form, and has been told.
        faults += unrelated(within, journey_form.parse(document, path)[1])

    return check_both


def _check_within(field: FieldDescriptor, partial: bool) -> Check:
    if field.is_repeated:
        return _list_check(field)
    message = message_in(field)
    if message.full_name == "orchestrator.v1.Predicate":
        return _predicate_check(field)
    return check_of(message, partial=partial and is_divisible(message))


def _list_check(field: FieldDescriptor) -> Check:
    most = list_limit(field)
    check_element = check_of(message_in(field)) if field.message_type is not None else _singly(_glance_of(field))

    def check(elements: Any, path: str, faults: list[Fault]) -> None:
        if len(elements) > most:
            faults.append(Fault(path=path, reason="TOO_LARGE", message=f"has at most {most} elements"))
            return
        for index, element in enumerate(elements):
            check_element(element, f"{path}[{index}]", faults)

    return check


def _singly(glance: _Glance) -> Check:
    def check(value: Any, path: str, faults: list[Fault]) -> None:
        if fault := glance(value):
            faults.append(Fault(path=path, reason=fault.reason, message=fault.message))

    return check


def _glance_of(field: FieldDescriptor) -> _Glance:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _text_glance(field)
        case FieldDescriptor.TYPE_BOOL:
            return lambda value: None
        case FieldDescriptor.TYPE_ENUM:
            return _enum_glance(field)
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return _integer_glance(field)
        case FieldDescriptor.TYPE_DOUBLE:
            return _glance_at_double
        case _:
            raise NotImplementedError(f"{field.full_name} has a type that this contract does not use")


def _text_glance(field: FieldDescriptor) -> _Glance:
    limit, is_required = text_limit(field), behaves(field, REQUIRED)

    def glance(text: str) -> Fault | None:
        if fault := text_fault(text, ""):
            return fault
        match limit:
            case Id():
                # Empty elements of lists come here; empty fields do not.
                return id_fault(text, "")
            case Characters(most) if len(text) > most:
                return Fault(path="", reason="TOO_LONG", message=f"has at most {most} characters")
            case Bytes(most) if len(text) > most or len(text.encode()) > most:
                return Fault(path="", reason="TOO_LONG", message=f"has at most {most} bytes of UTF-8")
        return required("") if is_required and text.isspace() else None

    return glance


def _enum_glance(field: FieldDescriptor) -> _Glance:
    known = words(enum_in(field))
    fault = Fault(path="", reason="UNKNOWN_ENUM_VALUE", message=f"must be one of {', '.join(known.values())}")
    return lambda number: None if number in known else fault


def _integer_glance(field: FieldDescriptor) -> _Glance:
    limit = integer_limit(field)
    fault = Fault(path="", reason="OUT_OF_RANGE", message=f"must be {limit.least} to {limit.most}")
    return lambda number: None if limit.least <= number <= limit.most else fault


def _glance_at_double(number: float) -> Fault | None:
    if math.isfinite(number):
        return None
    return Fault(path="", reason="INVALID_VALUE", message=f"{number} is not a JSON number")


def _predicate_check(field: FieldDescriptor) -> Check:
    about = about_of(field)

    def check(predicate: Any, path: str, faults: list[Fault]) -> None:
        faults += document_faults(predicate_to_document(predicate), path, about)

    return check


def _collecting(check_value: Callable[[Any, str], None]) -> Check:
    def check(value: Any, path: str, faults: list[Fault]) -> None:
        try:
            check_value(value, path)
        except Wrong as wrong:
            faults.append(wrong.fault)

    return check


def _check_mask(mask: Any, path: str, faults: list[Fault]) -> None:
    if len(mask.paths) > MAX_MASK_PATHS:
        faults.append(Fault(path=path, reason="TOO_LARGE", message=f"has at most {MAX_MASK_PATHS} paths"))


def _check_struct(struct: Struct, path: str, faults: list[Fault]) -> None:
    document = struct_to_json(struct)
    if _is_plain(document):
        return
    within = value_faults(document, path, max_depth=MAX_STRUCT_DEPTH)
    if not within and (fault := attributes.size_fault(document, path)):
        within.append(fault)
    faults += within


def _check_graph(graph: Any, path: str, faults: list[Fault]) -> None:
    faults += graph_faults(graph_to_document(graph), path)


def _check_export(export: Any, path: str, faults: list[Fault]) -> None:
    faults += export_faults(export_to_document(export), path)


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


_SPECIAL: dict[str, Check] = {
    "google.protobuf.Duration": _collecting(check_duration),
    "google.protobuf.FieldMask": _check_mask,
    "google.protobuf.Struct": _check_struct,
    "google.protobuf.Timestamp": _collecting(check_time),
    "orchestrator.v1.JourneyGraph": _check_graph,
    "orchestrator.v1.PinpointExport": _check_export,
}
