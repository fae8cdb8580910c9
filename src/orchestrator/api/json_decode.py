"""JSON documents as messages, with everything that is wrong in them and where.

What is looked at here is form: types, members, words, numbers. How much a field holds and what must be there is the
same for both transports and stands in `message_check.py`. Paths name members as the contract does, however they were
spelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api.descriptors import descriptor_of, enum_in, is_map, message_in
from orchestrator.api.field_limits import MAX_STRUCT_DEPTH, list_limit
from orchestrator.api.json_enums import numbers, words
from orchestrator.api.json_predicates import predicate_from_document, readable_part
from orchestrator.api.json_text import NoNumber, repetition_faults, tell, text_fault, value_faults
from orchestrator.api.json_values import read_duration, read_time, struct_of
from orchestrator.api.predicate_fields import about_of
from orchestrator.predicates.faults import Fault, Wrong, under
from orchestrator.predicates.parse import parse as parse_predicate
from orchestrator.v1.predicate_pb2 import Predicate

_M = TypeVar("_M", bound=Message)
#: (value, path, faults) -> the value as the message takes it; None: it has none, the faults say why. Raises Wrong.
_Convert = Callable[[Any, str, list[Fault]], Any]
#: (message, value, path, faults): writes one field.
_Read = Callable[[Any, Any, str, list[Fault]], None]

#: Of one object. More would tell nobody anything, and who sends a million is not answered with a million.
_UNKNOWN_FIELDS_TOLD = 20
#: Levels of lists and objects in a predicate's document that are looked at for texts and numbers.
_PREDICATE_DEPTH = 100

_INT_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
_DIGITS = re.compile(r"-?[0-9]{1,19}")


def decode(kind: type[_M], document: Any, path: str = "") -> tuple[_M, list[Fault]]:
    """The message of a caller's document (`parse_json`), and what is wrong with the document.

    What is faulty is absent in the message; in lists it leaves an empty element, so that later ones keep their places.
    Of a faulty predicate everything is there that can be read.
    """
    message = kind()
    faults: list[Fault] = []
    decode_into(message, document, path, faults)
    return message, faults


def decode_stored(kind: type[_M], document: Any) -> _M:
    """The message of a document that was checked when it was written. Raises ValueError if it has the wrong form."""
    message = kind()
    faults: list[Fault] = []
    _read_message(message, document, "", faults, stored=True)
    if faults:
        raise ValueError(f"a stored document has the wrong form: {[(fault.path, fault.reason) for fault in faults]}")
    return message


def decode_into(message: Message, document: Any, path: str, faults: list[Fault]) -> None:
    """Write a caller's document into a message."""
    _read_message(message, document, path, faults, stored=False)


def decode_text(message: Message, field: FieldDescriptor, texts: list[str], path: str, faults: list[Fault]) -> None:
    """Write a field from the texts that stood for it in a URL."""
    if field.is_repeated:
        value: Any = [_from_text(field, text) for text in texts]
    elif len(texts) > 1:
        faults.append(Fault(path=path, reason="DUPLICATE_FIELD", message="stands here more than once"))
        return
    else:
        value = _from_text(field, texts[0])
    _reader(field, False)(message, value, path, faults)


def unrelated(known: Iterable[Fault], more: Iterable[Fault]) -> list[Fault]:
    """Those of `more` that speak of something else than the known faults, and not of what contains or is part of it."""
    taken = {fault.path for fault in known}
    above = {prefix for path in taken for prefix in _prefixes(path)}
    return [
        fault
        for fault in more
        if fault.path not in taken
        and fault.path not in above
        and not any(prefix in taken for prefix in _prefixes(fault.path))
    ]


def _prefixes(path: str) -> list[str]:
    """The paths of what contains this path's end, the root excepted: `a`, `a[2]` for `a[2].b`."""
    return [path[: match.start()] for match in re.finditer(r"[.\[]", path) if match.start()]


def _read_message(message: Message, document: Any, path: str, faults: list[Fault], *, stored: bool) -> None:
    if not isinstance(document, dict):
        faults.append(Fault(path=path, reason="INVALID_TYPE", message="must be an object"))
        return
    faults.extend(repetition_faults(document, path))
    descriptor = descriptor_of(message)
    readers = _readers(descriptor, stored)
    seen: dict[str, str] = {}
    chosen: dict[str, str] = {}
    unknown = 0
    for name, value in document.items():
        found = readers.get(name)
        if found is None:
            unknown += 1
            if unknown <= _UNKNOWN_FIELDS_TOLD:
                known = ", ".join(field.json_name for field in descriptor.fields)
                text = f"no such field; there are {known}" if known else "no such field; there are none"
                faults.append(Fault(path=under(path, tell(name)), reason="UNKNOWN_FIELD", message=text))
            continue
        field, read = found
        at = under(path, field.json_name)
        if earlier := seen.get(field.name):
            text = f"stands here as {tell(earlier)} too"
            faults.append(Fault(path=at, reason="DUPLICATE_FIELD", message=text))
            continue
        seen[field.name] = name
        if value is None:
            continue
        if field.containing_oneof is not None:
            other = chosen.setdefault(field.containing_oneof.name, field.json_name)
            if other != field.json_name:
                text = f"either {other} or {field.json_name} can be given, not both"
                faults.append(Fault(path=path, reason="INVALID_VALUE", message=text))
                continue
        read(message, value, at, faults)


@cache
def _readers(descriptor: Descriptor, stored: bool) -> dict[str, tuple[FieldDescriptor, _Read]]:
    """By both spellings of each field."""
    return {
        name: (field, _reader(field, stored)) for field in descriptor.fields for name in (field.json_name, field.name)
    }


@cache
def _reader(field: FieldDescriptor, stored: bool) -> _Read:
    if is_map(field):
        return _map_reader(field, stored)
    if field.is_repeated:
        return _list_reader(field, stored)
    if field.message_type is not None:
        return _message_reader(field, stored)
    name, convert = field.name, _converter(field)

    def read(message: Any, value: Any, path: str, faults: list[Fault]) -> None:
        try:
            setattr(message, name, convert(value, path, faults))
        except Wrong as wrong:
            faults.append(wrong.fault)

    return read


def _message_reader(field: FieldDescriptor, stored: bool) -> _Read:
    name, special = field.name, _special(field, stored)

    def read(message: Any, value: Any, path: str, faults: list[Fault]) -> None:
        if special is None:
            member = getattr(message, name)
            member.SetInParent()
            _read_message(member, value, path, faults, stored=stored)
            return
        try:
            converted = special(value, path, faults)
        except Wrong as wrong:
            faults.append(wrong.fault)
            return
        if converted is not None:
            getattr(message, name).CopyFrom(converted)

    return read


def _list_reader(field: FieldDescriptor, stored: bool) -> _Read:
    name, most = field.name, list_limit(field)
    convert = None if field.message_type is not None else _converter(field)
    assert convert is not None or _special(field, stored) is None, f"{field.full_name} needs a reader"

    def read(message: Any, value: Any, path: str, faults: list[Fault]) -> None:
        if not isinstance(value, list):
            faults.append(Fault(path=path, reason="INVALID_TYPE", message="must be a list"))
            return
        if len(value) > most:
            faults.append(Fault(path=path, reason="TOO_LARGE", message=f"has at most {most} elements"))
            return
        elements = getattr(message, name)
        for index, element in enumerate(value):
            at = under(path, index)
            if convert is None:
                _read_message(elements.add(), element, at, faults, stored=stored)
                continue
            try:
                elements.append(convert(element, at, faults))
            except Wrong as wrong:
                faults.append(wrong.fault)
                elements.append("" if field.type == FieldDescriptor.TYPE_STRING else 0)

    return read


def _map_reader(field: FieldDescriptor, stored: bool) -> _Read:
    name, entry = field.name, message_in(field).fields_by_name["value"]
    convert = None if entry.message_type is not None else _converter(entry)

    def read(message: Any, value: Any, path: str, faults: list[Fault]) -> None:
        if not isinstance(value, dict):
            faults.append(Fault(path=path, reason="INVALID_TYPE", message="must be an object"))
            return
        faults.extend(repetition_faults(value, path))
        entries = getattr(message, name)
        for key, member in value.items():
            at = under(path, tell(key))
            if fault := text_fault(key, at):
                faults.append(fault)
                continue
            if convert is None:
                _read_message(entries[key], member, at, faults, stored=stored)
                continue
            try:
                entries[key] = convert(member, at, faults)
            except Wrong as wrong:
                faults.append(wrong.fault)

    return read


def _converter(field: FieldDescriptor) -> _Convert:
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


def _integer_converter(kind: int) -> _Convert:
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


def _enum_converter(enum: EnumDescriptor) -> _Convert:
    known = numbers(enum)

    def convert(value: Any, path: str, faults: list[Fault]) -> int:
        if not isinstance(value, str):
            raise Wrong(path, "INVALID_TYPE", "must be text")
        number = known.get(value.lower())
        if number is None:
            raise Wrong(path, "UNKNOWN_ENUM_VALUE", f"must be one of {', '.join(words(enum).values())}")
        return number

    return convert


def _special(field: FieldDescriptor, stored: bool) -> _Convert | None:
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
    message.FromTimedelta(read_duration(_string(value, path, faults), path))
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


def _predicate_converter(field: FieldDescriptor) -> _Convert:
    about = about_of(field)

    def convert(value: Any, path: str, faults: list[Fault]) -> Predicate | None:
        within = value_faults(value, path, max_depth=_PREDICATE_DEPTH)
        within += unrelated(within, parse_predicate(value, path, about=about)[1])
        faults.extend(within)
        if any(fault.path == path for fault in within):
            return None
        return readable_part(value) if within else predicate_from_document(value)

    return convert


def _stored_predicate(value: Any, path: str, faults: list[Fault]) -> Predicate:
    return predicate_from_document(value)


def _from_text(field: FieldDescriptor, text: str) -> Any:
    """What JSON would have had in place of a text in a URL; the text itself where that is none, to be refused."""
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return {"true": True, "false": False}.get(text, text)
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return int(text) if _DIGITS.fullmatch(text) else text
        case _:
            return text
