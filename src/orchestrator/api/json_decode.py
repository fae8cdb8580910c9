"""JSON documents as messages, with everything that is wrong in them and where.

What is looked at here is form: types, members, words, numbers. How much a field holds and what must be there is the
same for both transports and stands in `message_check.py`. Paths name members as the contract does, however they were
spelled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from orchestrator.api.descriptors import descriptor_of, is_map, json_fields
from orchestrator.api.field_limits import list_limit
from orchestrator.api.json_converters import converter, from_text, special_converter
from orchestrator.api.json_text import repetition_faults, tell
from orchestrator.predicates.faults import Fault, Wrong, under

_M = TypeVar("_M", bound=Message)
#: (message, value, path, faults): writes one field.
_Read = Callable[[Any, Any, str, list[Fault]], None]

#: Of one object. More would tell nobody anything, and who sends a million is not answered with a million.
_UNKNOWN_FIELDS_TOLD = 20


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
        value: Any = [from_text(field, text) for text in texts]
    elif len(texts) > 1:
        faults.append(Fault(path=path, reason="DUPLICATE_FIELD", message="stands here more than once"))
        return
    else:
        value = from_text(field, texts[0])
    _reader(field, False)(message, value, path, faults)


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
                known = ", ".join(field.json_name for _, field in json_fields(descriptor))
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
    """By both spellings of each member."""
    return {
        name: (field, _reader_within(way, field, stored))
        for way, field in json_fields(descriptor)
        for name in (field.json_name, field.name)
    }


def _reader_within(way: tuple[str, ...], field: FieldDescriptor, stored: bool) -> _Read:
    """Reads a field of a message that is inside the one at hand."""
    read = _reader(field, stored)
    if not way:
        return read

    def read_within(message: Any, value: Any, path: str, faults: list[Fault]) -> None:
        for name in way:
            message = getattr(message, name)
        read(message, value, path, faults)

    return read_within


@cache
def _reader(field: FieldDescriptor, stored: bool) -> _Read:
    assert not is_map(field), f"{field.full_name}: maps stand in answers only"
    if field.is_repeated:
        return _list_reader(field, stored)
    if field.message_type is not None:
        return _message_reader(field, stored)
    name, convert = field.name, converter(field)

    def read(message: Any, value: Any, path: str, faults: list[Fault]) -> None:
        try:
            setattr(message, name, convert(value, path, faults))
        except Wrong as wrong:
            faults.append(wrong.fault)

    return read


def _message_reader(field: FieldDescriptor, stored: bool) -> _Read:
    name, special = field.name, special_converter(field, stored)

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
    convert = None if field.message_type is not None else converter(field)
    special = special_converter(field, stored) if field.message_type is not None else None

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
            if convert is None and special is None:
                _read_message(elements.add(), element, at, faults, stored=stored)
                continue
            try:
                if convert is None:
                    assert special is not None
                    made = elements.add()
                    if (converted := special(element, at, faults)) is not None:
                        made.CopyFrom(converted)
                    continue
                elements.append(convert(element, at, faults))
            except Wrong as wrong:
                faults.append(wrong.fault)
                elements.append("" if field.type == FieldDescriptor.TYPE_STRING else 0)

    return read
