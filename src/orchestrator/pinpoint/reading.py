"""Reading a value by its shape: wrong types are faults, members without a counterpart and unknown ones are told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.notes import NOTES
from orchestrator.pinpoint.shapes import plain_name, structures
from orchestrator.predicates.faults import under

#: Of one object, how many unknown members are told one by one.
_UNKNOWN_TOLD = 100


def says_nothing(value: Any) -> bool:
    """Whether a member is as good as absent: null, false, 0, or empty. Pinpoint's answers are full of these."""
    return value is None or value is False or value == 0 or value in ("", [], {})


def read_structure(found: Discoveries, structure: str, value: Any, path: str) -> None:
    """Look at an object and everything in it."""
    if not isinstance(value, dict):
        found.fault(path, "INVALID_TYPE", "must be an object")
        return
    members, name = structures()[structure], plain_name(structure)
    unknown = [member for member in value if member not in members]
    for member in unknown[:_UNKNOWN_TOLD]:
        message = f"Pinpoint's {structure} has no such member: nothing was made of it"
        found.find(FindingKind.UNKNOWN, under(path, _spelled(member)), value[member], message)
    if len(unknown) > _UNKNOWN_TOLD:
        found.fault(path, "TOO_LARGE", f"more than {_UNKNOWN_TOLD} members that Pinpoint's {structure} does not have")
    for member, kind in members.items():
        if value.get(member) is None:
            continue
        at = under(path, member)
        note = NOTES.get(f"{name}.{member}")
        if note is None:
            _read(found, kind, value[member], at)
        elif not says_nothing(value[member]):
            found.find(note.kind, at, value[member], note.message)


def _read(found: Discoveries, kind: Any, value: Any, path: str) -> None:
    match kind:
        case "string" | "timestamp":
            _check(found, path, isinstance(value, str), "text")
        case "boolean":
            _check(found, path, isinstance(value, bool), "true or false")
        case "integer":
            _check(found, path, is_number(value) and value == int(value), "a whole number")
        case "double":
            _check(found, path, is_number(value), "a number")
        case str():
            read_structure(found, kind, value, path)
        case {"enum": words}:
            if not isinstance(value, str):
                found.fault(path, "INVALID_TYPE", "must be text")
            elif value not in words:
                found.fault(path, "UNKNOWN_ENUM_VALUE", f"must be one of {', '.join(words)}")
        case {"list": element_kind}:
            if not isinstance(value, list):
                found.fault(path, "INVALID_TYPE", "must be a list")
                return
            for index, element in enumerate(value):
                _read(found, element_kind, element, under(path, index))
        case {"map": value_kind}:
            if not isinstance(value, dict):
                found.fault(path, "INVALID_TYPE", "must be an object")
                return
            keys = kind.get("keys")
            for name, member in value.items():
                at = under(path, _spelled(name))
                if keys is not None and name not in keys:
                    found.fault(at, "UNKNOWN_ENUM_VALUE", f"must be one of {', '.join(keys)}")
                _read(found, value_kind, member, at)


def _check(found: Discoveries, path: str, is_right: bool, what: str) -> None:
    if not is_right:
        found.fault(path, "INVALID_TYPE", f"must be {what}")


def is_number(value: Any) -> bool:
    """A finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def placed(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The elements of a list, or the members of an object, each with its path."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield under(path, index), element
    elif isinstance(value, dict):
        for name, member in value.items():
            yield under(path, _spelled(name)), member


def place(path: str, *names: str) -> str:
    """The path of a member further inside."""
    for name in names:
        path = under(path, _spelled(name))
    return path


def _spelled(name: str) -> str:
    """A name that somebody made up, as it stands in paths: cut."""
    return name[:100]


def read_time(value: str) -> datetime | None:
    """A time of ISO 8601, with or without an offset; None for anything else."""
    if len(value) > 64:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
