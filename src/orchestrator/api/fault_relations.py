"""Faults that speak of one thing, found by those who look at different sides of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.predicates.faults import Fault


def unrelated(known: Iterable[Fault], more: Iterable[Fault]) -> list[Fault]:
    """Those of `more` that speak of something else than the known faults, and not of what contains or is part of it."""
    taken = {fault.path for fault in known}
    above = {prefix for path in taken for prefix in _prefixes(path)}
    return [
        fault
        for fault in more
        if fault.path not in taken
        and fault.path not in above
        and not any(prefix in taken for prefix in _prefixes(fault.path))
    ]


def _prefixes(path: str) -> list[str]:
    """The paths of what contains this path's end, the root excepted: `a`, `a[2]` for `a[2].b`."""
    return [path[: match.start()] for match in re.finditer(r"[.\[]", path) if match.start()]
