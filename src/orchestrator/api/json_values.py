"""The messages that have a JSON form of their own: objects of free form, times and durations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api.json_text import MAX_EXACT_INTEGER, NoNumber
from orchestrator.domain.durations import format_duration
from orchestrator.predicates.faults import Wrong
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.spans import read_span, read_units

#: What protobuf says a Duration can hold: ten thousand years.
LONGEST_DURATION = timedelta(seconds=315_576_000_000)
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2201, 1, 1, tzinfo=UTC)

_LOOKS_LIKE_A_TIME = re.compile(
    r"\+?[0-9]{4,}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9:]{5})"
)
_NOT_BETWEEN = "must be between the years 1900 and 2200"


def struct_to_json(struct: Struct) -> dict[str, Any]:
    """The object. A number that is none (NaN, infinite) becomes a `NoNumber`."""
    fields = struct.fields
    # A fifth faster than by items(); events have many of these.
    return {name: value_to_json(fields[name]) for name in fields}


def struct_in_order(struct: Struct) -> dict[str, Any]:
    """The same by the names of its members: messages keep no order, and what is shown twice shall be the same."""
    ordered: dict[str, Any] = _in_order(struct_to_json(struct))
    return ordered


def _in_order(value: Any) -> Any:
    match value:
        case dict():
            return {name: _in_order(value[name]) for name in sorted(value)}
        case list():
            return [_in_order(element) for element in value]
        case _:
            return value


def value_to_json(value: Value) -> Any:
    """The JSON value; null for an empty message. Whole numbers up to 2^53 are integers again."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _number_to_json(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct_to_json(value.struct_value)
        case "list_value":
            return [value_to_json(element) for element in value.list_value.values]
        case _:
            return None


def _number_to_json(number: float) -> int | float | NoNumber:
    if number.is_integer():
        return int(number) if abs(number) <= MAX_EXACT_INTEGER else number
    # Neither NaN nor an infinity is equal to itself less itself.
    if number - number == 0.0:
        return number
    return NoNumber("INVALID_VALUE", f"{number} is not a JSON number")


def struct_of(document: Mapping[str, Any]) -> Struct:
    """The message of an object that has no faults."""
    struct = Struct()
    fill_struct(struct, document)
    return struct


def fill_struct(struct: Struct, document: Mapping[str, Any]) -> None:
    """Write an object that has no faults into an empty Struct."""
    fields = struct.fields
    for name, value in document.items():
        fill_value(fields[name], value)


def fill_value(message: Value, value: Any) -> None:
    """Write a JSON value that has no faults into an empty Value."""
    match value:
        case None:
            message.null_value = NULL_VALUE
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int() | float():
            message.number_value = value
        case dict():
            message.struct_value.SetInParent()
            fill_struct(message.struct_value, value)
        case list():
            message.list_value.SetInParent()
            for element in value:
                fill_value(message.list_value.values.add(), element)
        case _:
            raise TypeError(f"not a JSON value: {type(value).__name__}")


def read_time(text: str, path: str) -> datetime:
    """The instant. Raises Wrong."""
    instant = parse_instant(text)
    if instant is None:
        if _LOOKS_LIKE_A_TIME.fullmatch(text) and not 1900 <= int(text.lstrip("+").split("-")[0]) <= 2200:
            raise Wrong(path, "OUT_OF_RANGE", _NOT_BETWEEN)
        raise Wrong(path, "INVALID_VALUE", "must be an RFC 3339 time with an offset, such as 2026-01-31T09:00:00Z")
    return instant


def check_time(time: Timestamp, path: str) -> None:
    """Raises Wrong for a message that is no instant we can keep. Fractions of a microsecond are cut off later."""
    if not 0 <= time.nanos < 1_000_000_000:
        raise Wrong(path, "INVALID_VALUE", "must have 0 to 999999999 nanos")
    if not _EARLIEST.timestamp() <= time.seconds < _LATEST.timestamp():
        raise Wrong(path, "OUT_OF_RANGE", _NOT_BETWEEN)


def write_time(time: Timestamp) -> str:
    """In UTC, to the millisecond or as exact as it is."""
    instant = time.ToDatetime(UTC)
    precision = "microseconds" if instant.microsecond % 1000 else "milliseconds"
    return instant.isoformat(timespec=precision).replace("+00:00", "Z")


def read_duration(value: str | Mapping[str, Any], path: str) -> timedelta:
    """The duration, zero or more, of a text or an object of units. Raises Wrong."""
    try:
        duration = read_span(value) if isinstance(value, str) else read_units(value)
    except ValueError as error:
        raise Wrong(path, "INVALID_VALUE", str(error)) from None
    if duration > LONGEST_DURATION:
        raise Wrong(path, "OUT_OF_RANGE", "longer than any duration that can be kept")
    return duration


def check_duration(duration: Duration, path: str) -> None:
    """Raises Wrong for a message that is no duration of ours."""
    if abs(duration.nanos) >= 1_000_000_000 or duration.seconds * duration.nanos < 0:
        raise Wrong(path, "INVALID_VALUE", "must have nanos below a second and of the sign of its seconds")
    if duration.seconds < 0 or duration.nanos < 0:
        raise Wrong(path, "INVALID_VALUE", "must not be negative")
    if duration.nanos % 1000:
        raise Wrong(path, "INVALID_VALUE", "a duration is exact to the microsecond")
    if duration.seconds > LONGEST_DURATION.total_seconds():
        raise Wrong(path, "OUT_OF_RANGE", "longer than any duration that can be kept")


def write_duration(duration: Duration) -> str:
    """The shortest form: `90m`, `3d`, `1d12h`."""
    return format_duration(duration.ToTimedelta())
