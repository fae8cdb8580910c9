"""JSON values as what fields take: texts, numbers, words, times, objects of free form, predicates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api.descriptors import enum_in, message_in
from orchestrator.api.field_limits import MAX_STRUCT_DEPTH
from orchestrator.api.json_enums import numbers, words
from orchestrator.api.json_exports import export_faults, export_from_document
from orchestrator.api.json_graphs import graph_faults, graph_from_document
from orchestrator.api.json_predicates import predicate_from_document, readable_part
from orchestrator.api.json_text import NoNumber, text_fault, value_faults
from orchestrator.api.json_values import read_duration, read_time, struct_of
from orchestrator.api.predicate_fields import about_of, document_faults
from orchestrator.predicates.faults import Fault, Wrong
from orchestrator.v1.journey_pb2 import JourneyGraph
from orchestrator.v1.pinpoint_service_pb2 import PinpointExport
from orchestrator.v1.predicate_pb2 import Predicate

#: (value, path, faults) -> the value as the message takes it; None: it has none, the faults say why. Raises Wrong.
Convert = Callable[[Any, str, list[Fault]], Any]

_INT_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
_DIGITS = re.compile(r"-?[0-9]{1,19}")


def converter(field: FieldDescriptor) -> Convert:
    """For fields that are no messages."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _string
        case FieldDescriptor.TYPE_BOOL:
            return _boolean
        case FieldDescriptor.TYPE_DOUBLE:
            return _double
        case FieldDescriptor.TYPE_ENUM:
            return _enum_converter(enum_in(field))
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return _integer_converter(field.type)
        case _:
            raise NotImplementedError(f"{field.full_name} has a type that this contract does not use")


def _string(value: Any, path: str, faults: list[Fault]) -> str:
    if not isinstance(value, str):
        raise Wrong(path, "INVALID_TYPE", "must be text")
    if fault := text_fault(value, path):
        raise Wrong(fault.path, fault.reason, fault.message)
    return value


def _boolean(value: Any, path: str, faults: list[Fault]) -> bool:
    if not isinstance(value, bool):
        raise Wrong(path, "INVALID_TYPE", "must be true or false")
    return value


def _double(value: Any, path: str, faults: list[Fault]) -> float:
    _refuse_no_number(value, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(path, "INVALID_TYPE", "must be a number")
    return float(value)


def _integer_converter(kind: int) -> Convert:
    least, most = _INT_RANGES[kind]

    def convert(value: Any, path: str, faults: list[Fault]) -> int:
        _refuse_no_number(value, path)
        if kind == FieldDescriptor.TYPE_INT64 and isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(path, "INVALID_TYPE", "must be a whole number")
        if not least <= value <= most:
            raise Wrong(path, "OUT_OF_RANGE", f"must be {least} to {most}")
        return value

    return convert


def _refuse_no_number(value: Any, path: str) -> None:
    if isinstance(value, NoNumber):
        raise Wrong(path, value.reason, value.message)


def _enum_converter(enum: EnumDescriptor) -> Convert:
    known = numbers(enum)

    def convert(value: Any, path: str, faults: list[Fault]) -> int:
        if not isinstance(value, str):
            raise Wrong(path, "INVALID_TYPE", "must be text")
        number = known.get(value.lower())
        if number is None:
            raise Wrong(path, "UNKNOWN_ENUM_VALUE", f"must be one of {', '.join(words(enum).values())}")
        return number

    return convert


def special_converter(field: FieldDescriptor, stored: bool) -> Convert | None:
    """For messages that are written in a form of their own; None: any other message."""
    match message_in(field).full_name:
        case "google.protobuf.Timestamp":
            return _timestamp
        case "google.protobuf.Duration":
            return _duration
        case "google.protobuf.FieldMask":
            return _field_mask
        case "google.protobuf.Struct":
            return _struct
        case "orchestrator.v1.JourneyGraph":
            return _graph
        case "orchestrator.v1.PinpointExport":
            return _export
        case "orchestrator.v1.Predicate":
            return _stored_predicate if stored else _predicate_converter(field)
        case _:
            return None


def _timestamp(value: Any, path: str, faults: list[Fault]) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(read_time(_string(value, path, faults), path))
    return message


def _duration(value: Any, path: str, faults: list[Fault]) -> Duration:
    message = Duration()
    written = value if isinstance(value, dict) else _string(value, path, faults)
    message.FromTimedelta(read_duration(written, path))
    return message


def _field_mask(value: Any, path: str, faults: list[Fault]) -> FieldMask:
    paths = _string(value, path, faults).split(",")
    return FieldMask(paths=[stripped for path in paths if (stripped := path.strip())])


def _struct(value: Any, path: str, faults: list[Fault]) -> Struct | None:
    if not isinstance(value, dict):
        raise Wrong(path, "INVALID_TYPE", "must be an object")
    within = value_faults(value, path, max_depth=MAX_STRUCT_DEPTH)
    if within:
        faults.extend(within)
        return None
    return struct_of(value)


def _graph(value: Any, path: str, faults: list[Fault]) -> JourneyGraph | None:
    within = graph_faults(value, path)
    faults.extend(within)
    return None if within else graph_from_document(value)


def _export(value: Any, path: str, faults: list[Fault]) -> PinpointExport | None:
    within = export_faults(value, path)
    faults.extend(within)
    return None if within else export_from_document(value)


def _predicate_converter(field: FieldDescriptor) -> Convert:
    about = about_of(field)

    def convert(value: Any, path: str, faults: list[Fault]) -> Predicate | None:
        within = document_faults(value, path, about)
        faults.extend(within)
        if any(fault.path == path for fault in within):
            return None
        return readable_part(value) if within else predicate_from_document(value)

    return convert


def _stored_predicate(value: Any, path: str, faults: list[Fault]) -> Predicate:
    return predicate_from_document(value)


def from_text(field: FieldDescriptor, text: str) -> Any:
    """What JSON would have had in place of a text in a URL; the text itself where that is none, to be refused."""
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return {"true": True, "false": False}.get(text, text)
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return int(text) if _DIGITS.fullmatch(text) else text
        case _:
            return text
