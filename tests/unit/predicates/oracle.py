"""A second, naive reading of the language: straight from the document, over every event, with no code of the product.

It knows only the spellings and the instants that `documents.py` writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.conformance.worlds import Happened, World

SPELLINGS = {"eq": "equals", "neq": "not_equals", "gt": "greater_than", "lt": "less_than"}
ORDERS = {"greater_than": (1,), "gte": (0, 1), "less_than": (-1,), "lte": (-1, 0)}


def holds(document: dict[str, Any], world: World, as_of: datetime) -> bool:
    kind = document["kind"]
    if kind == "everyone":
        return True
    if kind == "and":
        return False not in [holds(clause, world, as_of) for clause in document["clauses"]]
    if kind == "or":
        return True in [holds(clause, world, as_of) for clause in document["clauses"]]
    if kind == "not":
        return not holds(document["clause"], world, as_of)
    if kind == "in_cohort":
        return document["cohortId"] in world.cohorts
    if kind == "event_not_fired":
        return not holds({**document, "kind": "event_fired"}, world, as_of)
    if kind in ("event_fired", "any_event"):
        arrived = [min(event.at, as_of) for event in happened(document, world)]
        count = sum(in_window(instant, document.get("window"), as_of) for instant in arrived)
        return count >= int(document.get("atLeast", 1))
    operator = SPELLINGS.get(document["operator"], document["operator"])
    if operator.startswith("not_"):
        return not holds({**document, "operator": operator.removeprefix("not_")}, world, as_of)
    stored = stored_at(document["fieldPath"], world)
    return stored is not None and compares(operator, stored, document.get("value"), as_of)


def happened(document: dict[str, Any], world: World) -> list[Happened]:
    if document["kind"] == "any_event":
        return [event for events in world.events.values() for event in events]
    events = world.events.get(document["eventName"], ())
    where = document.get("where")
    return [e for e in events if where is None or holds(where, World(attributes=e.properties), e.at)]


def gone(document: dict[str, Any], world: World) -> str | None:
    """The cohort whose absence has to be reported."""
    named = {leaf["cohortId"] for leaf in leaves(document) if leaf["kind"] == "in_cohort"}
    return min(named - world.known_cohorts, default=None)


def leaves(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "clauses" in document:
        for clause in document["clauses"]:
            yield from leaves(clause)
    elif "clause" in document:
        yield from leaves(document["clause"])
    else:
        yield document


def in_window(instant: datetime, window: dict[str, Any] | None, as_of: datetime) -> bool:
    match window:
        case None | {"type": "ever"}:
            return True
        case {"type": "last_n_days", "days": days}:
            return as_of - timedelta(hours=24 * days) < instant <= as_of
        case {"type": "last", "duration": duration}:
            return as_of - length(duration) < instant <= as_of
        case {"type": "since", "time": time}:
            return datetime.fromisoformat(time) <= instant <= as_of
    raise AssertionError(window)


def length(text: str) -> timedelta:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[text[-1]]: int(text[:-1])})


def stored_at(field_path: str, world: World) -> Any:
    names = [name.replace("\0", ".") for name in field_path.replace("\\.", "\0").split(".")]
    value: Any = world.attributes
    if names[0] == "$subject":
        return built_in(names[1], world)
    if names[0] == "$entry":
        value, names = world.entry, names[1:]
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def built_in(name: str, world: World) -> Any:
    if name == "time_zone":
        return world.time_zone
    if name == "created_at":
        at = world.created_at
    else:
        at = max((event.at for events in world.events.values() for event in events), default=None)
    return at.isoformat().replace("+00:00", "Z") if at else None


def compares(operator: str, stored: Any, value: Any, as_of: datetime) -> bool:
    if operator == "exists":
        return True
    if operator == "equals":
        return canonical(stored) == canonical(value)
    if operator == "in" and isinstance(value, str):
        items = [item.strip() for item in value.split(",")]
        return not isinstance(stored, list | dict) and text(stored) in [item for item in items if item]
    if operator == "in":
        return canonical(stored) in [canonical(item) for item in value]
    if operator == "contains":
        if isinstance(stored, str):
            return isinstance(value, str) and stored.find(value) >= 0
        return isinstance(stored, list) and canonical(value) in [canonical(item) for item in stored]
    if operator == "within":
        at = instant_of(stored)
        span = length(value) if isinstance(value, str) else timedelta(**value)
        return at is not None and as_of - span < at <= as_of
    left, right = canonical(stored), canonical(value)
    if left[0] != "number" or right[0] != "number":
        left, right = ("instant", instant_of(stored)), ("instant", instant_of(value))
        if left[1] is None or right[1] is None:
            return False
    return (left[1] > right[1]) - (left[1] < right[1]) in ORDERS[operator]


def canonical(value: Any) -> tuple[str, Any]:
    """A form in which values are equal just when Python says so."""
    if value is None or isinstance(value, bool):
        return ("literal", str(value))
    if isinstance(value, int | float):
        return ("number", Decimal(str(value)))
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, list):
        return ("array", tuple(canonical(item) for item in value))
    return ("object", tuple(sorted((name, canonical(item)) for name, item in value.items())))


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{(Decimal(repr(value)) + 0).normalize():f}"
    return str(value)


def instant_of(value: Any) -> datetime | None:
    """Right for what `documents.py` writes, where a text is an instant if it has a T and an offset."""
    if isinstance(value, str) and "T" in value and value.endswith(("Z", "+02:00")):
        return datetime.fromisoformat(value).astimezone(UTC)
    return None
