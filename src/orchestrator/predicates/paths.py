"""Field paths: names joined by dots, in which `\\.` is a dot and `\\\\` a backslash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: First part of a path that reads the triggering event's properties.
ENTRY = "$entry"
#: First part of a path that reads what the webhook of a step has answered; the second is the step's id.
STEPS = "$steps"


def split_path(text: str) -> tuple[str, ...]:
    """The names a path walks through. Raises ValueError with a sentence for the caller."""
    parts: list[str] = []
    part: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in (".", "\\"):
                raise ValueError("a backslash stands before a dot or another backslash only")
            part.append(escaped)
        elif character == ".":
            parts.append("".join(part))
            part.clear()
        else:
            part.append(character)
    parts.append("".join(part))
    if not all(parts):
        raise ValueError("a part of the path is empty")
    return tuple(parts)


def join_path(parts: Iterable[str]) -> str:
    """The text that `split_path` splits into these parts."""
    return ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in parts)


def find(document: Mapping[str, Any], path: Iterable[str], absent: Any = None) -> Any:
    """What stands at the end of the path, or `absent`. Walks objects only: never into lists, never into text."""
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return absent
        value = value[name]
    return value
