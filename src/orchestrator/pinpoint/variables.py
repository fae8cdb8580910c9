"""Pinpoint's message variables as those of our templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.pinpoint.attributes import ADDRESSES, CHANNEL_TYPE, DEMOGRAPHIC, ENDPOINT, LOCATION, METRICS, USER

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
#: Names that Liquid reads otherwise.
_WORDS = frozenset({"and", "or", "not", "contains", "in", "true", "false", "nil", "null", "empty", "blank"})

_SUBJECT = ("subject", "attributes")


class Unspeakable(Exception):
    """A name that no path in Liquid can hold."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path as Handlebars writes it: `User.UserAttributes.FirstName.[0]` is five names, the last a number."""

    names: tuple[str | int, ...]

    @property
    def text(self) -> str:
        """As it is written, each index in brackets: what default substitutions call it."""
        return ".".join(f"[{name}]" if isinstance(name, int) else name for name in self.names)


def liquid_path(names: Sequence[str | int]) -> str:
    """Raises Unspeakable."""
    made = ""
    for name in names:
        if isinstance(name, str) and ("}}" in name or "%}" in name):
            raise Unspeakable(name)
        if isinstance(name, int):
            made += f"[{name}]"
        elif _PLAIN.fullmatch(name) and name not in _WORDS:
            made += f".{name}" if made else name
        elif '"' not in name:
            made += f'["{name}"]'
        elif "'" not in name:
            made += f"['{name}']"
        else:
            raise Unspeakable(name)
    return made


def translated(path: Path, channel: str) -> tuple[str | int, ...] | None:
    """Where the value of a variable stands here; None where there is no such value."""
    match path.names:
        case ("Address",):
            return (*_SUBJECT, ADDRESSES[channel])
        case ("ChannelType",):
            return (*_SUBJECT, CHANNEL_TYPE)
        case ("User", "UserId"):
            return ("subject", "id")
        case ("User", "UserAttributes", name, *rest):
            return (*_SUBJECT, USER, name, *rest)
        case ("Attributes", name, *rest):
            return (*_SUBJECT, ENDPOINT, name, *rest)
        case ("Metrics", name, *rest):
            return (*_SUBJECT, METRICS, name, *rest)
        case ("Demographic", str(name), *rest) if name in DEMOGRAPHIC:
            return (*_SUBJECT, *DEMOGRAPHIC[name], *rest)
        case ("Location", str(name), *rest) if name in LOCATION:
            return (*_SUBJECT, *LOCATION[name], *rest)
        case _:
            return None


def substitutions(document: Mapping[str, object]) -> tuple[dict[str, str], list[tuple[str, object]]]:
    """Default values by the path of the variable, and the members that are none; the object may be flat or nested."""
    found: dict[str, str] = {}
    rest: list[tuple[str, object]] = []
    pending: list[tuple[str, object]] = list(document.items())
    while pending:
        name, value = pending.pop()
        match value:
            case _ if name in found:
                rest.append((name, value))
            case Mapping() if value:
                pending += [(f"{name}.{member}", inner) for member, inner in value.items()]
            case bool():
                found[name] = "true" if value else "false"
            case str() | int() | float():
                found[name] = str(value)
            case _:
                rest.append((name, value))
    return found, rest
