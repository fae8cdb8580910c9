"""Fields that are wrong in the bytes of a message."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api.descriptors import enum_in
from orchestrator.api.field_limits import list_limit
from tests.acceptance.hostile_meaning import by_meaning
from tests.acceptance.probes import (
    GRPC,
    MALFORMED,
    TRUNCATED,
    WORDS,
    Known,
    Probe,
    full_name,
    is_language,
    joined,
    others_in_oneof,
    short,
    too_long,
)
from tests.acceptance.request_fields import (
    DURATION,
    FIELD_MASK,
    LEAVES,
    PREDICATE,
    STRUCT,
    TIMESTAMP,
    VALUE,
    WINDOW,
    Place,
    length_delimited,
    tag,
    varint,
)

UNKNOWN = b"\xf8\x3f\x01"  # field 1023


def wire_probes(place: Place, known: Known) -> Iterator[Probe]:
    number, kind = place.field.number, place.kind
    right = 0 if kind in ("integer", "bool", "enum") else 1 if kind == "double" else 2

    def make(case: str, replacement: bytes, at: str | None, *reasons: str, label: str, **more: Any) -> Probe:
        return Probe(
            rpc=place.rpc, place=place, case=case, label=label, transport=GRPC, request=place.wire(replacement), at=at,
            reasons=frozenset(reasons), **more,
        )  # fmt: skip

    contents = {0: b"\x05", 1: b"\0" * 8, 2: varint(2) + b"ab", 5: b"\0" * 4}
    unknown = joined(place.wire_path, f"#{number}")
    # Words of a list are packed, or each stands for itself.
    also_right = 0 if kind == "list" and place.field.enum_type is not None else right
    for wire_type, content in contents.items():
        if wire_type not in (right, also_right):
            label = f"wire type {wire_type}"
            yield make("wrong type", tag(number, wire_type) + content, unknown, "UNKNOWN_FIELD", label=label)
    for wire_type in (3, 6):
        yield make("wrong type", tag(number, wire_type), None, MALFORMED, label=f"wire type {wire_type}")
    yield make("wrong type", tag(number, right) + b"\xff", None, MALFORMED, label="cut off")
    for case, label, content, reasons, at in _contents(place):
        yield make(case, content, at, *reasons, label=label)
    if kind in (PREDICATE, WINDOW, "message", *LEAVES):
        good = _given(place)
        within = joined(place.wire_path_within, "#1023")
        yield make("unknown field", length_delimited(number, good + UNKNOWN), within, "UNKNOWN_FIELD", label="#1023")
        yield make("wrong type", length_delimited(number, b"\xff\xff"), None, MALFORMED, label="garbage inside")
    if kind != "list" and not place.is_body:
        once = _once(place)
        yield make("twice", once + once, place.path, label="last one counts")
    for other in others_in_oneof(place):
        beside = _once(place) + length_delimited(other.number, b"")
        yield make("both of a oneof", beside, place.path, label=f"{other.name}, the last one counts")
    if place.is_required:
        reasons = () if is_language(place) else ("REQUIRED",)
        yield make("empty", b"", None if place.is_body else place.path, *reasons, label="absent")

    def put(text: str) -> bytes:
        return place.wire(length_delimited(number, _timestamp_of(text) if kind == TIMESTAMP else text.encode()))

    yield from by_meaning(place, known, GRPC, put)


_Content = tuple[str, str, bytes, tuple[str, ...], str | None]


def _contents(place: Place) -> Iterator[_Content]:
    """(case, label, bytes in place of the field, reasons, path)"""
    number, kind, path = place.field.number, place.kind, place.path

    def inside(content: bytes) -> bytes:
        return length_delimited(number, content)

    match kind:
        case "string":
            language = is_language(place)
            long = ("x" * 20_000 if language else too_long(place)).encode()
            yield "too long", short(long.decode()), inside(long), () if language else ("TOO_LONG",), path
            yield "NUL", "a, NUL, b", inside(b"a\0b"), () if language else ("INVALID_VALUE",), path
            for label, content in (("half of a pair", b"a\xed\xa0\x80"), ("no UTF-8", b"\xff\xfe")):
                yield "lone surrogate", label, inside(content), (MALFORMED,), None
        case "enum":
            for value in (99, -1, 2**31 - 1):
                assert value not in enum_in(place.field).values_by_number
                content = tag(number, 0) + varint(value)
                yield "unknown word", str(value), content, ("UNKNOWN_ENUM_VALUE",), path
        case "integer" if place.field.type == FieldDescriptor.TYPE_INT64:
            for value in (-1, 2**53 + 1, 2**63 - 1):
                yield "beyond 2^53", str(value), tag(number, 0) + varint(value), ("OUT_OF_RANGE",), path
        case "integer":
            for value in (-1, 2**31):
                reasons = () if is_language(place) else ("OUT_OF_RANGE",)
                yield "beyond 2^53", str(value), tag(number, 0) + varint(value), reasons, path
            yield "beyond 2^53", TRUNCATED, tag(number, 0) + varint(2**53 + 1), (), path
        case "double":
            for share in (float("nan"), float("inf"), float("-inf")):
                content = tag(number, 1) + struct.pack("<d", share)
                yield "not a number", str(share), content, ("INVALID_VALUE", "OUT_OF_RANGE"), path
        case "list":
            yield from _list_contents(place)
        case name if name == TIMESTAMP:
            for case, seconds in (("year 99999", 3_093_527_980_800), ("before 1900", -2_208_988_801)):
                yield case, str(seconds), inside(_varints(seconds)), ("OUT_OF_RANGE",), path
            yield "beyond 2^53", "2^53 + 1", inside(_varints(2**53 + 1)), ("OUT_OF_RANGE",), path
            for nanos in (-1, 10**9):
                yield "wrong type", f"{nanos} nanos", inside(_varints(0, nanos)), ("INVALID_VALUE",), path
        case name if name == DURATION:
            yield "beyond 2^53", "2^53 + 1", inside(_varints(2**53 + 1)), ("OUT_OF_RANGE",), path
            yield "wrong type", "negative", inside(_varints(-5)), ("INVALID_VALUE",), path
            for nanos in (-1, 1, 10**9):
                yield "wrong type", f"{nanos} nanos", inside(_varints(5, nanos)), ("INVALID_VALUE",), path
        case name if name == FIELD_MASK:
            for label, text in (("nonsense", b"nonsense"), ("into a text", b"name.first"), ("NUL", b"a\0")):
                case = "NUL" if label == "NUL" else "unknown field"
                yield case, label, inside(length_delimited(1, text)), ("UNKNOWN_FIELD",), path
            yield "lone surrogate", "no UTF-8", inside(length_delimited(1, b"\xff")), (MALFORMED,), None
            yield "huge", "101 paths", inside(length_delimited(1, b"name") * 101), ("TOO_LARGE",), path
        case name if name == STRUCT:
            yield from _struct_contents(place)
        case name if name == VALUE:
            for label, double in _BAD_DOUBLES.items():
                yield "not a number", label, inside(double), (), path
            yield "too deep", "150 lists", inside(_lists(150)), (MALFORMED,), None
            yield "too deep", "20 lists", inside(_lists(20)), (), path
            yield "NUL", "text", inside(length_delimited(3, b"\0")), (), path
            yield "lone surrogate", "no UTF-8", inside(length_delimited(3, b"\xff")), (MALFORMED,), None
            yield "too long", "20,000 bytes", inside(length_delimited(3, b"x" * 20_000)), (), path
            for case, text in (("year 99999", b"99999-01-01T00:00:00Z"), ("before 1900", b"1899-12-31T00:00:00Z")):
                yield case, text.decode(), inside(length_delimited(3, text)), (), path
            yield "wrong type", "no kind", inside(b""), (), path
        case name if name == PREDICATE:
            yield "unknown word", "empty", inside(b""), (), path
            yield "too deep", "17 levels", inside(_wire_negations(16)), (), path
            yield "too deep", "150 levels", inside(_wire_negations(150)), (MALFORMED,), None
            yield "huge", "201 leaves", inside(length_delimited(7, length_delimited(1, b"\x0a\0") * 201)), (), None
        case name if name == WINDOW:
            yield "unknown word", "empty", inside(b""), (), path
    if full_name(place) in WORDS:
        reasons = () if is_language(place) else ("INVALID_VALUE",)
        yield "unknown word", "no-such-word", inside(b"no-such-word"), reasons, path
    if place.dotted.endswith("since.time"):
        for case, text in (("year 99999", b"99999-01-01T00:00:00Z"), ("before 1900", b"1899-12-31T00:00:00Z")):
            yield case, text.decode(), inside(text), (), path


def _list_contents(place: Place) -> Iterator[_Content]:
    number, path = place.field.number, place.path
    most = list_limit(place.field)
    if place.field.message_type is not None:
        reasons = () if is_language(place) else ("TOO_LARGE",)
        at = path if reasons else None
        yield "huge", "too many", length_delimited(number, b"") * (most + 1), reasons, at
        unknown = joined(f"{place.wire_path_within}[0]", "#1023")
        yield "unknown field", "#1023", length_delimited(number, UNKNOWN), ("UNKNOWN_FIELD",), unknown
        return
    if place.field.enum_type is not None:
        yield "huge", "too many", length_delimited(number, b"\x01" * (most + 1)), ("TOO_LARGE",), path
        for value in (0, 99):
            yield "unknown word", str(value), tag(number, 0) + varint(value), ("UNKNOWN_ENUM_VALUE",), f"{path}[0]"
        return
    yield "huge", "too many", length_delimited(number, b"a") * (most + 1), ("TOO_LARGE",), path
    yield "too long", "too long", length_delimited(number, too_long(place).encode()), ("TOO_LONG",), f"{path}[0]"
    yield "NUL", "a, NUL", length_delimited(number, b"a\0"), ("INVALID_VALUE",), f"{path}[0]"
    yield "lone surrogate", "no UTF-8", length_delimited(number, b"\xff"), (MALFORMED,), None
    yield "empty", "an empty element", length_delimited(number, b""), ("REQUIRED",), f"{path}[0]"


def _struct_contents(place: Place) -> Iterator[_Content]:
    number, path = place.field.number, place.path

    def member(name: bytes, value: bytes) -> bytes:
        return length_delimited(1, length_delimited(1, name) + length_delimited(2, value))

    def inside(content: bytes) -> bytes:
        return length_delimited(number, content)

    deep = b""
    for _ in range(24):
        deep = member(b"d", length_delimited(5, deep))
    yield "too deep", "25 objects", inside(deep), ("TOO_DEEP",), path
    yield "too deep", "150 lists", inside(member(b"a", _lists(150))), (MALFORMED,), None
    for label, double in _BAD_DOUBLES.items():
        yield "not a number", label, inside(member(b"a", double)), ("INVALID_VALUE",), f"{path}.a"
    yield "NUL", "text", inside(member(b"a", length_delimited(3, b"\0"))), ("INVALID_VALUE",), f"{path}.a"
    yield "NUL", "name", inside(member(b"\0", length_delimited(3, b"a"))), ("INVALID_VALUE",), f"{path}.?"
    yield "lone surrogate", "text", inside(member(b"a", length_delimited(3, b"\xff"))), (MALFORMED,), None
    yield "lone surrogate", "name", inside(member(b"\xff", length_delimited(3, b"a"))), (MALFORMED,), None
    one = tag(2, 1) + struct.pack("<d", 1.0)
    many = b"".join(member(f"k{index}".encode(), one) for index in range(501))
    yield "huge", "501 members", inside(many), ("TOO_LARGE",), path
    large = member(b"a", length_delimited(3, b"x" * 66_000))
    yield "too long", "66,000 bytes", inside(large), ("TOO_LARGE",), path
    yield "unknown field", "in a value", inside(member(b"a", UNKNOWN)), ("UNKNOWN_FIELD",), path
    wrong = member(b"a", tag(3, 0) + b"\x05")
    yield "wrong type", "a number as a text", inside(wrong), ("UNKNOWN_FIELD",), path
    nested = member(b"a", length_delimited(6, length_delimited(1, UNKNOWN)))
    yield "unknown field", "in a list", inside(nested), ("UNKNOWN_FIELD",), path


_BAD_DOUBLES = {
    str(number): tag(2, 1) + struct.pack("<d", number) for number in (float("nan"), float("inf"), float("-inf"))
}


def _lists(levels: int) -> bytes:
    value = b""
    for _ in range(levels):
        value = length_delimited(6, length_delimited(1, value))
    return value


def _wire_negations(levels: int) -> bytes:
    node = length_delimited(1, b"")
    for _ in range(levels):
        node = length_delimited(8, node)
    return node


def _varints(*values: int) -> bytes:
    return b"".join(tag(place, 0) + varint(value) for place, value in enumerate(values, start=1) if value)


def _timestamp_of(text: str) -> bytes:
    time = Timestamp()
    time.FromJsonString(text)
    return time.SerializeToString()


def _given(place: Place) -> bytes:
    """The content of a message field in the good request; nothing where it has none."""
    parent = place.parent()
    content: bytes = getattr(parent, place.field.name).SerializeToString()
    return content


def _once(place: Place) -> bytes:
    """The field with its tag, as the good request has it; else with some value."""
    parent, number = place.parent(), place.field.number
    if place.field.message_type is not None:
        return length_delimited(number, _given(place))
    value = getattr(parent, place.field.name)
    if place.kind == "string":
        return length_delimited(number, value.encode())
    return tag(number, 0) + varint(int(value))
