"""Reading what authors write, with everything that is wrong and where: what all parts of a form have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from orchestrator.domain.durations import format_duration
from orchestrator.domain.ids import ID
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.fields import unknown_fields, whole_number
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.parse import About
from orchestrator.predicates.parse import parse as parse_predicate
from orchestrator.predicates.spans import read_span, read_units
from orchestrator.predicates.tree import Attribute, Predicate

_Choice = TypeVar("_Choice")


class FormReader:
    """One reading of one document. What cannot be read is told, and None in its place, so that reading goes on.

    A null is as good as an absent member. Whoever needs a thing says so with `required`.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, path: str, reason: str, message: str) -> None:
        self.faults.append(Fault(path=path, reason=reason, message=message))

    def required(self, path: str, message: str) -> None:
        self.fault(path, "REQUIRED", message)

    def members(self, value: object, path: str, known: Collection[str]) -> Mapping[str, Any] | None:
        """An object, in which others than the known members are faults."""
        if not isinstance(value, dict):
            self.fault(path, "INVALID_TYPE", "must be an object")
            return None
        self.faults.extend(unknown_fields(value, known, path))
        return value

    def only_one(self, given: Mapping[str, Any], names: Collection[str], path: str, what: str) -> str | None:
        """Which of these members is there: exactly one has to be."""
        found = [name for name in names if given.get(name) is not None]
        if len(found) == 1:
            return found[0]
        if found:
            self.fault(path, "INVALID_VALUE", f"{what}: this one has {' and '.join(found)}")
        else:
            self.required(path, f"{what}: give one of {', '.join(names)}")
        return None

    def elements(self, value: object, path: str, at_most: int) -> list[tuple[str, object]]:
        """The elements of a list, each with its path; none where there is no list."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.fault(path, "INVALID_TYPE", "must be a list")
        elif len(value) > at_most:
            self.fault(path, "TOO_LARGE", f"has at most {at_most} elements")
        else:
            return [(under(path, index), element) for index, element in enumerate(value)]
        return []

    def flag(self, value: object, path: str) -> bool:
        if value is not None and not isinstance(value, bool):
            self.fault(path, "INVALID_TYPE", "must be true or false")
        return value is True

    def text(self, value: object, path: str, at_most: int) -> str | None:
        """A text; whoever may leave it out may leave it empty."""
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.fault(path, "INVALID_TYPE", "must be text")
        elif len(value) > at_most:
            self.fault(path, "TOO_LONG", f"has at most {at_most} characters")
        else:
            return value
        return None

    def number(self, value: object, path: str, most: int, unit: str = "") -> int | None:
        """A whole number from 1 on."""
        if value is None:
            return None
        whole = whole_number(value)
        if whole is None:
            self.fault(path, "INVALID_TYPE", f"must be a whole number{unit}")
        elif not 1 <= whole <= most:
            self.fault(path, "OUT_OF_RANGE", f"must be 1 to {most}{unit}")
        else:
            return whole
        return None

    def decimal(self, value: object, path: str, least: float, most: float) -> float | None:
        """A number, whole or not."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(path, "INVALID_TYPE", "must be a number")
        elif not least <= value <= most:
            self.fault(path, "OUT_OF_RANGE", f"must be {least:g} to {most:g}")
        else:
            return float(value)
        return None

    def own_id(self, fields: Mapping[str, Any], path: str, taken: set[str], what: str) -> str:
        """The id of something, which none of its kind has yet; it is taken from now on."""
        at = under(path, "id")
        if fields.get("id") is None or fields["id"] == "":
            self.required(at, "an id is required")
            return ""
        own = self.reference(fields["id"], at)
        if own in taken:
            self.fault(at, "DUPLICATE_ID", f"another {what} is called {own}")
        elif own:
            taken.add(own)
        return own

    def reference(self, value: object, path: str) -> str:
        """An id of something else, or "" where there is none (or a faulty one)."""
        if value is None or value == "":
            return ""
        if not isinstance(value, str):
            self.fault(path, "INVALID_TYPE", "must be text")
        elif ID.fullmatch(value):
            return value
        else:
            self.fault(path, "INVALID_ID", "an id is 1 to 128 of A-Z a-z 0-9 _ . : -")
        return ""

    def duration(self, value: object, path: str, at_most: timedelta) -> timedelta | None:
        """More than nothing, and at most some seconds or days."""
        if value is None:
            return None
        if not isinstance(value, str | dict):
            self.fault(path, "INVALID_TYPE", 'must be text such as 90m or 3d, or an object such as {"days": 3}')
            return None
        try:
            duration = read_span(value) if isinstance(value, str) else read_units(value)
        except ValueError as error:
            self.fault(path, "INVALID_VALUE", str(error))
            return None
        if timedelta(0) < duration <= at_most:
            return duration
        most = f"{at_most.days} days" if at_most.days else format_duration(at_most)
        self.fault(path, "OUT_OF_RANGE", f"must be more than 0 and at most {most}")
        return None

    def instant(self, value: object, path: str) -> datetime | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self.fault(path, "INVALID_TYPE", "must be text, such as 2026-03-01T09:00:00Z")
        elif (instant := parse_instant(value)) is None:
            self.fault(path, "INVALID_VALUE", "must be an RFC 3339 time with an offset, such as 2026-03-01T09:00:00Z")
        else:
            return instant
        return None

    def choice(self, value: object, path: str, choices: Mapping[str, _Choice]) -> _Choice | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self.fault(path, "INVALID_TYPE", "must be text")
        elif value not in choices:
            self.fault(path, "UNKNOWN_ENUM_VALUE", f"must be one of {', '.join(choices)}")
        else:
            return choices[value]
        return None

    def predicate(self, value: object, path: str, about: About) -> Predicate | None:
        """A predicate, of which nothing is left out: an empty one is a fault."""
        predicate, faults = parse_predicate(value, path, about=about)
        self.faults.extend(faults)
        return predicate

    def field_path(self, value: object, path: str, *, about: About | None = None) -> tuple[str, ...] | None:
        """A path of the form that predicates have: into attributes, or into an event's properties, unless `about` says
        what else may be read.
        """
        if value is not None and not isinstance(value, str):
            self.fault(path, "INVALID_TYPE", "must be text")
            return None
        leaf, faults = parse_predicate(
            {"kind": "attribute", "fieldPath": value, "operator": "exists"}, about=about or _OWN
        )
        for fault in faults:
            is_elsewhere = fault.reason == "LEAF_NOT_ALLOWED"
            self.fault(
                path, fault.reason, "only a field of its own can be named here" if is_elsewhere else fault.message
            )
        return leaf.path if isinstance(leaf, Attribute) else None


#: What an event's own properties are called is what attributes may be called: nothing of `$entry` or `$subject`.
_OWN = About.EVENT
