"""The windows of event leaves, from JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchestrator.predicates.faults import Fault, Wrong, under
from orchestrator.predicates.fields import unknown_fields, whole_number
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.spans import read_span
from orchestrator.predicates.tree import Ever, Last, Since, Window

#: The longest look back: a hundred years of 365 days.
MAX_DAYS = 36_500

_TYPES = "ever, last_n_days, last, since"


def read_window(value: object, path: str, faults: list[Fault]) -> Window:
    """The window; `ever` where none is given. Members without a meaning go into `faults`; else raises Wrong."""
    if value is None:
        return Ever()
    if not isinstance(value, dict):
        raise Wrong(path, "INVALID_WINDOW", f"a window is an object with a type: {_TYPES}")
    match value.get("type"):
        case "ever":
            faults += unknown_fields(value, ("type",), path)
            return Ever()
        case "last_n_days":
            faults += unknown_fields(value, ("type", "days"), path)
            return _last_n_days(value.get("days"), under(path, "days"))
        case "last":
            faults += unknown_fields(value, ("type", "duration"), path)
            return _last(value.get("duration"), under(path, "duration"))
        case "since":
            faults += unknown_fields(value, ("type", "time"), path)
            return _since(value.get("time"), under(path, "time"))
        case _:
            raise Wrong(under(path, "type"), "INVALID_WINDOW", f"one of {_TYPES}")


def _last_n_days(value: Any, path: str) -> Last:
    days = whole_number(value)
    if days is None or not 1 <= days <= MAX_DAYS:
        raise Wrong(path, "INVALID_WINDOW", f"a whole number of days, 1 to {MAX_DAYS}")
    return Last(duration=timedelta(days=days))


def _last(value: Any, path: str) -> Last:
    if not isinstance(value, str):
        raise Wrong(path, "INVALID_WINDOW", "a duration such as 90m, 12h or 7d")
    try:
        duration = read_span(value)
    except ValueError as error:
        raise Wrong(path, "INVALID_WINDOW", str(error)) from None
    if not timedelta(0) < duration <= timedelta(days=MAX_DAYS):
        raise Wrong(path, "INVALID_WINDOW", f"more than nothing and at most {MAX_DAYS} days")
    return Last(duration=duration)


def _since(value: Any, path: str) -> Since:
    time = parse_instant(value) if isinstance(value, str) else None
    if time is None:
        raise Wrong(path, "INVALID_WINDOW", "an RFC 3339 time with an offset, such as 2026-01-31T09:00:00Z")
    return Since(time=time)
