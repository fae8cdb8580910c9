"""What an attribute is compared with, from JSON: each operator takes its own kind of value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.predicates.faults import Fault, Wrong, under
from orchestrator.predicates.fields import MAX_TEXT_BYTES, is_too_long, unknown_fields, whole_number
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.spans import read_span
from orchestrator.predicates.tree import Operator
from orchestrator.predicates.values import is_number
from orchestrator.predicates.windows import MAX_DAYS

#: Of the items of one value, those within items included.
MAX_ITEMS = 1000
MAX_VALUE_DEPTH = 16

#: Every spelling of every operator.
OPERATORS = {operator.value: operator for operator in Operator} | {
    "eq": Operator.EQUALS,
    "neq": Operator.NOT_EQUALS,
    "gt": Operator.GREATER_THAN,
    "lt": Operator.LESS_THAN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """`Attribute.value` and `Attribute.texts`."""

    value: Any
    texts: bool = False


def read_operand(operator: Operator, value: object, path: str, faults: list[Fault]) -> Operand:
    """What is wrong inside a value goes into `faults`; raises Wrong where the value as a whole is of no use."""
    if operator in (Operator.EXISTS, Operator.NOT_EXISTS):
        return Operand(value=None)
    if value is None:
        raise Wrong(path, "VALUE_REQUIRED", f"{operator.value} needs a value; not_exists tests for null")
    match operator:
        case Operator.EQUALS | Operator.NOT_EQUALS | Operator.CONTAINS | Operator.NOT_CONTAINS:
            faults += _faults_within(value, path)
            return Operand(value=value)
        case Operator.IN if isinstance(value, str):
            return _texts(value, path)
        case Operator.IN:
            return _choices(value, path, faults)
        case Operator.WITHIN | Operator.NOT_WITHIN:
            return Operand(value=_span(value, path, faults))
        case _:
            return Operand(value=_bound(value, path))


def _bound(value: object, path: str) -> Any:
    """What order compares with. Texts have none: their order depends on a database's collation."""
    orderable: object = None
    if isinstance(value, str):
        orderable = parse_instant(value)
    elif is_number(value) and _is_finite(value):
        orderable = value
    if orderable is None:
        raise Wrong(path, "VALUE_NOT_ORDERABLE", "a number, or an RFC 3339 time with an offset")
    return orderable


def _texts(value: str, path: str) -> Operand:
    if is_too_long(value):
        raise Wrong(path, "TOO_LARGE", f"at most {MAX_TEXT_BYTES} bytes")
    items = tuple(item for item in map(str.strip, value.split(",")) if item)
    if len(items) > MAX_ITEMS:
        raise Wrong(path, "TOO_LARGE", f"at most {MAX_ITEMS} items")
    if not items:
        raise Wrong(path, "VALUE_REQUIRED", "at least one item is required")
    return Operand(value=items, texts=True)


def _choices(value: object, path: str, faults: list[Fault]) -> Operand:
    if not isinstance(value, list):
        raise Wrong(path, "INVALID_VALUE", "a list, or a text with commas between the items")
    if not value:
        raise Wrong(path, "VALUE_REQUIRED", "at least one item is required")
    within = _faults_within(value, path)
    if not within:
        within = [
            Fault(
                path=under(path, index), reason="INVALID_VALUE", message="null equals nothing; not_exists tests for it"
            )
            for index, item in enumerate(value)
            if item is None
        ]
    faults += within
    return Operand(value=tuple(value))


def _span(value: object, path: str, faults: list[Fault]) -> timedelta:
    """`"7d"`, or one of days, hours and minutes."""
    span: timedelta | None = None
    if isinstance(value, str):
        try:
            span = read_span(value)
        except ValueError as error:
            raise Wrong(path, "INVALID_VALUE", str(error)) from None
    elif isinstance(value, dict):
        units = ("days", "hours", "minutes")
        faults += unknown_fields(value, units, path)
        given = {unit: value[unit] for unit in units if value.get(unit) is not None}
        if len(given) != 1:
            raise Wrong(path, "INVALID_VALUE", f"exactly one of {', '.join(units)}")
        unit, number = given.popitem()
        path = under(path, unit)
        count = whole_number(number)
        if count is not None and 0 < count <= MAX_DAYS * 24 * 60:
            span = timedelta(**{unit: count})
    if span is None or not timedelta(0) < span <= timedelta(days=MAX_DAYS):
        message = f"a whole number of days, hours or minutes, or a duration such as 7d; at most {MAX_DAYS} days"
        raise Wrong(path, "INVALID_VALUE", message)
    return span


def _faults_within(value: object, path: str) -> list[Fault]:
    """What keeps this from being a JSON value of bounded size. No recursion: nothing has bounded its depth yet."""
    faults: list[Fault] = []

    def refuse(at: str, reason: str, message: str) -> None:
        faults.append(Fault(path=at, reason=reason, message=message))

    pending: list[tuple[object, str, int]] = [(value, path, 0)]
    items = 0
    while pending:
        item, at, depth = pending.pop()
        members: list[tuple[object, str, int]] = []
        match item:
            case None | bool():
                pass
            case int() | float():
                if not _is_finite(item):
                    refuse(at, "INVALID_VALUE", "numbers are finite")
            case str():
                if is_too_long(item):
                    refuse(at, "TOO_LARGE", f"at most {MAX_TEXT_BYTES} bytes")
            case list() | dict() if depth == MAX_VALUE_DEPTH:
                refuse(at, "TOO_DEEP", f"a value is at most {MAX_VALUE_DEPTH} levels deep")
            case list() | dict() if items + len(item) > MAX_ITEMS:
                refuse(path, "TOO_LARGE", f"at most {MAX_ITEMS} items, those within items included")
                break
            case list():
                members = [(member, under(at, index), depth + 1) for index, member in enumerate(item)]
            case dict() if any(not isinstance(name, str) or is_too_long(name) for name in item):
                refuse(at, "INVALID_VALUE", f"names are texts of at most {MAX_TEXT_BYTES} bytes")
            case dict():
                members = [(member, under(at, name), depth + 1) for name, member in item.items()]
            case _:
                refuse(at, "INVALID_VALUE", "not a JSON value")
        items += len(members)
        pending.extend(reversed(members))
    return faults


def _is_finite(number: Any) -> bool:
    return isinstance(number, int) or math.isfinite(number)
