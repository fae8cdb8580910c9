"""What Pinpoint asks about endpoints and users, and about events, as conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.pinpoint.attributes import DEMOGRAPHIC, ENDPOINT, LOCATION, METRICS, USER
from orchestrator.pinpoint.conditions import (
    UNKNOWN,
    Condition,
    all_of,
    any_of,
    attribute,
    negated,
)
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.reading import is_number, place, placed, read_time, says_nothing
from orchestrator.predicates.instants import write_instant
from orchestrator.predicates.paths import join_path

_COMPARISONS: Mapping[str, str] = {
    "EQUAL": "equals",
    "GREATER_THAN": "greater_than",
    "GREATER_THAN_OR_EQUAL": "gte",
    "LESS_THAN": "less_than",
    "LESS_THAN_OR_EQUAL": "lte",
}
_RECENCY: Mapping[str, Mapping[str, Any]] = {
    "HR_24": {"type": "last", "duration": "24h"},
    "DAY_7": {"type": "last_n_days", "days": 7},
    "DAY_14": {"type": "last_n_days", "days": 14},
    "DAY_30": {"type": "last_n_days", "days": 30},
}
_DEMOGRAPHIC = ("AppVersion", "Channel", "DeviceType", "Make", "Model", "Platform")
_DAY = timedelta(days=1)

#: The condition that a field has one of some values.
_OneOf = Callable[[str, Sequence[str]], Condition]


def read_dimensions(found: Discoveries, body: Mapping[str, Any], path: str) -> Condition:
    """`SegmentDimensions`: whom all of it holds for."""
    return all_of(_dimensions(found, body, path))


def _dimensions(found: Discoveries, body: Mapping[str, Any], path: str) -> Iterator[Condition]:
    for member, root in (("Attributes", ENDPOINT), ("UserAttributes", USER)):
        for at, (name, dimension) in _named(body.get(member), place(path, member)):
            yield _attribute(found, join_path((root, name)), dimension, at, one_of)
    for at, (name, dimension) in _named(body.get("Metrics"), place(path, "Metrics")):
        yield _metric(found, join_path((METRICS, name)), dimension, at)
    demographic = body.get("Demographic") or {}
    for name in _DEMOGRAPHIC:
        if demographic.get(name) is not None:
            yield _set(found, join_path(DEMOGRAPHIC[name]), demographic[name], place(path, "Demographic", name))
    location = body.get("Location") or {}
    if location.get("Country") is not None:
        yield _set(found, join_path(LOCATION["Country"]), location["Country"], place(path, "Location", "Country"))
    if not says_nothing(location.get("GPSPoint")):
        message = "distances cannot be asked about: the condition counts as not met, negated or not"
        found.find(FindingKind.NO_COUNTERPART, place(path, "Location", "GPSPoint"), location["GPSPoint"], message)
        yield UNKNOWN
    behavior = body.get("Behavior") or {}
    if not says_nothing(behavior.get("Recency")):
        yield _recency(found, behavior["Recency"], place(path, "Behavior", "Recency"))


def read_properties(found: Discoveries, body: Mapping[str, Any], path: str) -> Condition:
    """`Attributes` and `Metrics` of `EventDimensions`: which events it holds for, by their properties."""
    conditions = [
        _attribute(found, join_path((name,)), dimension, at, _is_one_of)
        for at, (name, dimension) in _named(body.get("Attributes"), place(path, "Attributes"))
    ]
    conditions += [
        _metric(found, join_path((name,)), dimension, at)
        for at, (name, dimension) in _named(body.get("Metrics"), place(path, "Metrics"))
    ]
    return all_of(conditions)


def read_values(found: Discoveries, dimension: Mapping[str, Any], path: str) -> Sequence[str] | None:
    """`Values`, which have to be there; None, and a fault, if there are none."""
    values: Sequence[str] = dimension.get("Values") or ()
    if values:
        return values
    found.fault(place(path, "Values"), "REQUIRED", "a dimension has at least one value")
    return None


def one_of(field_path: str, values: Sequence[str]) -> Condition:
    """An attribute is one of these texts, or a list with one of them in it: Pinpoint keeps lists, others a text.

    `contains` looks into texts as well, where it would find parts of words; every text, and hardly a list, contains "".
    """
    elements = any_of(attribute(field_path, "contains", value) for value in values if value)
    return any_of([_is_one_of(field_path, values), all_of([elements, attribute(field_path, "not_contains", "")])])


def _is_one_of(field_path: str, values: Sequence[str]) -> Condition:
    return attribute(field_path, "in", list(dict.fromkeys(values)))


def _named(body: Mapping[str, Any] | None, path: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Each member that is there, with its path, its name and its value."""
    for (at, value), name in zip(placed(body or {}, path), body or {}, strict=True):
        if value is not None:
            yield at, (name, value)


def _attribute(
    found: Discoveries, field_path: str, dimension: Mapping[str, Any], path: str, is_one_of: _OneOf
) -> Condition:
    values = read_values(found, dimension, path)
    if values is None:
        return UNKNOWN
    match dimension.get("AttributeType") or "INCLUSIVE":
        case "INCLUSIVE":
            return is_one_of(field_path, values)
        case "EXCLUSIVE":
            return negated(is_one_of(field_path, values))
        case "CONTAINS":
            message = "parts of a text are found; in an attribute that is a list, only whole elements are"
            found.find(FindingKind.DIFFERS, place(path, "AttributeType"), "CONTAINS", message)
            return any_of(attribute(field_path, "contains", value) for value in values)
        case timed:
            return _timed(found, field_path, timed, values, place(path, "Values"))


def _timed(found: Discoveries, field_path: str, kind: str, values: Sequence[str], path: str) -> Condition:
    instants: list[datetime] = []
    for at, value in placed(list(values), path):
        instant = read_time(value.replace("/", "-"))
        if instant is None:
            found.fault(at, "INVALID_VALUE", "must be a time of ISO 8601, such as 2026-03-01T09:00:00Z")
            return UNKNOWN
        instants.append(_in_utc(instant))
    if kind == "BETWEEN":
        if len(instants) != 2:
            found.fault(path, "INVALID_VALUE", "BETWEEN has two values")
            return UNKNOWN
        return all_of([_order(field_path, "gte", min(instants)), _order(field_path, "lte", max(instants))])
    if kind == "ON":
        return any_of(_on(field_path, instant) for instant in instants)
    operator = "less_than" if kind == "BEFORE" else "greater_than"
    return any_of(_order(field_path, operator, instant) for instant in instants)


def _on(field_path: str, instant: datetime) -> Condition:
    """On that day, in UTC; "time is ignored"."""
    midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    return all_of([_order(field_path, "gte", midnight), _order(field_path, "less_than", midnight + _DAY)])


def _order(field_path: str, operator: str, instant: datetime) -> Condition:
    return attribute(field_path, operator, write_instant(instant))


def _in_utc(time: datetime) -> datetime:
    """A time without an offset is UTC's, as it is of the console's dates."""
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:  # at the ends of the calendar
        return time.replace(tzinfo=UTC)


def _metric(found: Discoveries, field_path: str, dimension: Mapping[str, Any], path: str) -> Condition:
    comparison, value = dimension.get("ComparisonOperator"), dimension.get("Value")
    operator = _COMPARISONS.get(comparison or "")
    if operator is None:
        reason = "REQUIRED" if comparison is None else "UNKNOWN_ENUM_VALUE"
        found.fault(place(path, "ComparisonOperator"), reason, f"must be one of {', '.join(_COMPARISONS)}")
    if not is_number(value):
        found.fault(place(path, "Value"), "REQUIRED", "a metric is compared with a number")
    if operator is None or not is_number(value):
        return UNKNOWN
    return attribute(field_path, operator, value)


def _set(found: Discoveries, field_path: str, dimension: Mapping[str, Any], path: str) -> Condition:
    values = read_values(found, dimension, path)
    if values is None:
        return UNKNOWN
    condition = one_of(field_path, values)
    return negated(condition) if dimension.get("DimensionType") == "EXCLUSIVE" else condition


def _recency(found: Discoveries, body: Mapping[str, Any], path: str) -> Condition:
    window = _RECENCY.get(body.get("Duration") or "")
    if window is None or body.get("RecencyType") is None:
        missing = "Duration" if window is None else "RecencyType"
        found.fault(place(path, missing), "REQUIRED", "a recency has a duration and a type")
        return UNKNOWN
    message = "active is whoever has had an event of any name; what providers report of messages are events, too"
    found.find(FindingKind.DIFFERS, path, body, message)
    condition: Condition = {"kind": "any_event", "window": dict(window)}
    return negated(condition) if body["RecencyType"] == "INACTIVE" else condition
