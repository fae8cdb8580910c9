"""What can be wrong with a field, made from its descriptor: for JSON documents and for messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.struct_pb2 import Struct

from orchestrator.api.descriptors import message_in
from orchestrator.api.field_limits import Bytes, Characters, Id, integer_limit, list_limit, text_limit
from orchestrator.v1.predicate_pb2 import Predicate

#: Numbers that Python's own JSON writer would refuse or spell otherwise are written by hand, between these marks.
RAW = "<raw>"
RAW_END = "</raw>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """`reason` is the one that is expected; `at` is appended to the field's path where the fault is inside the value.

    `limit`: wrong by size, so that nobody minds where the server itself writes the field.
    """

    case: str
    value: Any
    reason: str
    at: str = ""
    limit: bool = False


def raw(text: str) -> str:
    return f"{RAW}{text}{RAW_END}"


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"d": value}
    return value


def negations(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"kind": "everyone"}
    for _ in range(levels - 1):
        value = {"kind": "not", "clause": value}
    return value


def in_json(field: FieldDescriptor) -> Iterator[Bad]:
    """Values that no transport's JSON may take for this field."""
    if field.is_repeated:
        yield from _types("text", 5, True, {})
        yield Bad(case="too many", value=[None] * (list_limit(field) + 1), reason="TOO_LARGE")
        return
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            yield from _types(5, True, [], {})
            yield from _texts(field)
            yield Bad(case="half a surrogate", value="\ud800x", reason="INVALID_VALUE")
        case FieldDescriptor.TYPE_ENUM:
            yield from _types(5, True, [], {})
            yield Bad(case="unknown word", value="no such word", reason="UNKNOWN_ENUM_VALUE")
            yield Bad(case="unspecified", value="unspecified", reason="UNKNOWN_ENUM_VALUE")
        case FieldDescriptor.TYPE_BOOL:
            yield from _types("true", 1, [], {})
        case FieldDescriptor.TYPE_INT32:
            yield from _types("5", True, 1.5, [], {})
            yield Bad(case="2^31", value=2**31, reason="OUT_OF_RANGE")
            yield Bad(case="2^53 + 1", value=raw(str(2**53 + 1)), reason="OUT_OF_RANGE")
            yield Bad(case="5,000 digits", value=raw("9" * 5000), reason="OUT_OF_RANGE")
            yield Bad(case="NaN", value=raw("NaN"), reason="INVALID_VALUE")
            yield Bad(case="1e400", value=raw("1e400"), reason="OUT_OF_RANGE")
            yield Bad(case="too small", value=min(integer_limit(field).least, 0) - 1, reason="OUT_OF_RANGE", limit=True)
        case FieldDescriptor.TYPE_INT64:
            # Large ones are written as text, as programs that have only doubles can read them.
            yield from _types("five", "5.0", "9" * 5000, True, 1.5, [], {})
            yield Bad(case="2^63", value=str(2**63), reason="OUT_OF_RANGE")
            yield Bad(case="2^53 + 1", value=raw(str(2**53 + 1)), reason="OUT_OF_RANGE")
            yield Bad(case="NaN", value=raw("NaN"), reason="INVALID_VALUE")
            yield Bad(case="too small", value=min(integer_limit(field).least, 0) - 1, reason="OUT_OF_RANGE", limit=True)
        case FieldDescriptor.TYPE_DOUBLE:
            yield from _types("0.5", True, [], {})
            yield Bad(case="NaN", value=raw("NaN"), reason="INVALID_VALUE")
            yield Bad(case="1e400", value=raw("1e400"), reason="OUT_OF_RANGE")
        case FieldDescriptor.TYPE_MESSAGE:
            yield from _messages_in_json(field)
        case _:
            raise NotImplementedError(field.full_name)


def _types(*values: Any) -> Iterator[Bad]:
    for value in values:
        yield Bad(case=f"{value!r}", value=value, reason="INVALID_TYPE")


def _texts(field: FieldDescriptor) -> Iterator[Bad]:
    yield Bad(case="NUL", value="a\x00b", reason="INVALID_VALUE", limit=True)
    match text_limit(field):
        case Id():
            yield Bad(case="too long", value="a" * 129, reason="TOO_LONG", limit=True)
            yield Bad(case="blank", value="a b", reason="INVALID_ID", limit=True)
            yield Bad(case="dots", value="..", reason="INVALID_ID", limit=True)
        case Characters(most):
            yield Bad(case="too long", value="é" * (most + 1), reason="TOO_LONG", limit=True)
        case Bytes(most):
            yield Bad(case="too long", value="é" * (most // 2) + "ab", reason="TOO_LONG", limit=True)


def _messages_in_json(field: FieldDescriptor) -> Iterator[Bad]:
    match message_in(field).full_name:
        case "google.protobuf.Timestamp":
            yield from _types(5, True, [], {})
            for text in ("soon", "2026-03-01", "2026-03-01T12:00:00", "2026-02-30T12:00:00Z", "", "a\x00"):
                yield Bad(case=repr(text), value=text, reason="INVALID_VALUE")
            for year in ("99999", "1899", "2201", "0001"):
                yield Bad(case=f"year {year}", value=f"{year}-01-01T00:00:00Z", reason="OUT_OF_RANGE")
        case "google.protobuf.Duration":
            yield from _types(5, True, [])
            written: tuple[Any, ...] = ("soon", "-5s", "P1M", "1.5h", "", "5", {}, {"days": 0.5}, {"months": 1})
            for duration in written:
                yield Bad(case=repr(duration), value=duration, reason="INVALID_VALUE")
            yield Bad(case="20,000 years", value="1043000w", reason="OUT_OF_RANGE")
        case "google.protobuf.FieldMask":
            yield from _types(5, True, [], {})
            yield Bad(case="no such field", value="name,nonsense", reason="UNKNOWN_FIELD")
            yield Bad(case="into a text", value="name.first", reason="UNKNOWN_FIELD")
        case "google.protobuf.Struct":
            yield from _types("text", 5, True, [])
            yield Bad(case="half a surrogate", value={"a": ["\udfff"]}, reason="INVALID_VALUE", at=".a[0]")
            yield Bad(case="NaN", value={"a": raw("NaN")}, reason="INVALID_VALUE", at=".a")
            yield Bad(case="2^53 + 1", value={"a": raw(str(2**53 + 1))}, reason="OUT_OF_RANGE", at=".a")
            yield Bad(case="1e400", value={"a": raw("1e400")}, reason="OUT_OF_RANGE", at=".a")
            yield from _structs()
        case "orchestrator.v1.Predicate":
            yield Bad(case="5", value=5, reason="INVALID_VALUE")
            half: dict[str, Any] = {"kind": "attribute", "fieldPath": "a", "operator": "eq", "value": "\ud800"}
            yield Bad(case="half a surrogate", value=half, reason="INVALID_VALUE", at=".value")
            large = {**half, "value": raw(str(2**53 + 1))}
            yield Bad(case="2^53 + 1", value=large, reason="OUT_OF_RANGE", at=".value")
            yield Bad(case="unknown kind", value={"kind": "magic"}, reason="UNKNOWN_KIND", at=".kind")
            unknown = {"kind": "everyone", "x": 1}
            yield Bad(case="unknown member", value=unknown, reason="UNKNOWN_FIELD", at=".x")
            yield from _predicates()
        case _:
            yield from _types("text", 5, True, [])
            yield Bad(case="unknown member", value={"noSuchField": 1}, reason="UNKNOWN_FIELD", at=".noSuchField")


def _structs() -> Iterator[Bad]:
    yield Bad(case="NUL", value={"a": ["\x00"]}, reason="INVALID_VALUE", at=".a[0]", limit=True)
    yield Bad(case="too deep", value=nested(25), reason="TOO_DEEP", at=".d" * 24, limit=True)
    yield Bad(case="too many", value={f"k{n}": n for n in range(501)}, reason="TOO_LARGE", limit=True)
    yield Bad(case="too large", value={"a": "x" * 66_000}, reason="TOO_LARGE", limit=True)


def _predicates() -> Iterator[Bad]:
    nul = {"kind": "attribute", "fieldPath": "a\x00", "operator": "exists"}
    yield Bad(case="NUL", value=nul, reason="INVALID_VALUE", at=".fieldPath")
    yield Bad(case="too deep", value=negations(17), reason="TOO_DEEP", at=".clause" * 16)
    wide = {"kind": "or", "clauses": [{"kind": "everyone"}] * 201}
    yield Bad(case="too large", value=wide, reason="TOO_LARGE")
    yield Bad(case="no clauses", value={"kind": "and", "clauses": []}, reason="EMPTY_CLAUSES", at=".clauses")


@dataclass(frozen=True, slots=True, kw_only=True)
class BadMessage:
    """`spoil` makes a field of its parent wrong."""

    case: str
    spoil: Callable[[Any], None]
    reason: str
    at: str = ""


def in_message(field: FieldDescriptor) -> Iterator[BadMessage]:
    """What can be wrong with this field of a message."""
    name = field.name

    def put(value: Any) -> Callable[[Any], None]:
        return lambda parent: setattr(parent, name, value)

    def change(edit: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda parent: edit(getattr(parent, name))

    if field.is_repeated:
        yield BadMessage(case="too many", spoil=change(_crowded(list_limit(field))), reason="TOO_LARGE")
        return
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            for bad in _texts(field):
                yield BadMessage(case=bad.case, spoil=put(bad.value), reason=bad.reason)
        case FieldDescriptor.TYPE_ENUM:
            yield BadMessage(case="unknown number", spoil=put(99), reason="UNKNOWN_ENUM_VALUE")
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            yield BadMessage(case="too small", spoil=put(min(integer_limit(field).least, 0) - 1), reason="OUT_OF_RANGE")
        case FieldDescriptor.TYPE_DOUBLE:
            yield BadMessage(case="NaN", spoil=put(float("nan")), reason="INVALID_VALUE")
        case FieldDescriptor.TYPE_MESSAGE:
            for case, edit, reason, at in _message_edits(field):
                yield BadMessage(case=case, spoil=change(edit), reason=reason, at=at)


def _crowded(most: int) -> Callable[[Any], None]:
    return lambda elements: elements.extend([elements[0]] * (most + 1))


_Edit = Callable[[Any], None]


def _message_edits(field: FieldDescriptor) -> Iterator[tuple[str, _Edit, str, str]]:
    match message_in(field).full_name:
        case "google.protobuf.Timestamp":
            yield "year 99999", lambda time: setattr(time, "seconds", 3_093_527_980_800), "OUT_OF_RANGE", ""
            yield "year 1", lambda time: setattr(time, "seconds", -62_135_596_800), "OUT_OF_RANGE", ""
            yield "nanos", lambda time: setattr(time, "nanos", 1_000_000_000), "INVALID_VALUE", ""
        case "google.protobuf.Duration":
            yield "negative", lambda duration: setattr(duration, "seconds", -5), "INVALID_VALUE", ""
            yield "nanos", lambda duration: setattr(duration, "nanos", 1), "INVALID_VALUE", ""
            yield "20,000 years", lambda duration: setattr(duration, "seconds", 2**40), "OUT_OF_RANGE", ""
        case "google.protobuf.FieldMask":
            yield "no such field", lambda mask: mask.paths.append("nonsense"), "UNKNOWN_FIELD", ""
        case "google.protobuf.Struct":
            yield "NaN", lambda struct: struct.update({"a": float("nan")}), "INVALID_VALUE", ".a"
            yield "infinite", lambda struct: struct.update({"a": float("-inf")}), "INVALID_VALUE", ".a"
            for bad in _structs():
                yield bad.case, _refilled(bad.value), bad.reason, bad.at
        case "orchestrator.v1.Predicate":
            yield "empty", lambda predicate: predicate.Clear(), "UNKNOWN_KIND", ".kind"
            yield "NaN", _not_a_number, "INVALID_VALUE", ".value"
            yield "too deep", _deep, "TOO_DEEP", ".clause" * 16
            yield "no clauses", lambda p: p.Clear() or p.any_of.SetInParent(), "EMPTY_CLAUSES", ".clauses"


def _refilled(value: dict[str, Any]) -> _Edit:
    def edit(struct: Struct) -> None:
        struct.Clear()
        struct.update(value)

    return edit


def _not_a_number(predicate: Predicate) -> None:
    predicate.Clear()
    predicate.attribute.field_path = "a"
    predicate.attribute.operator = "eq"
    predicate.attribute.value.number_value = float("nan")


def _deep(predicate: Predicate) -> None:
    predicate.Clear()
    for _ in range(16):
        predicate = predicate.negation
    predicate.everyone.SetInParent()
