"""A subject's attributes: how a patch changes them, how large they may grow, and which of them are times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from orchestrator.predicates.faults import Fault
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.paths import join_path

#: Bytes of the JSON text, in UTF-8.
MAX_BYTES = 64 * 1024
#: Of all objects together, also those within others.
MAX_KEYS = 500
#: Objects and lists within each other; the attributes themselves are the first.
MAX_DEPTH = 24

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The shortest RFC 3339 time is `2026-01-31T12:00:00Z`.
_SHORTEST_TIME = 20


def merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The target after a JSON merge patch (RFC 7396): null removes, objects merge, anything else replaces.

    Neither argument is changed. The patch is at most MAX_DEPTH deep.
    """
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            earlier = merged.get(name)
            merged[name] = merge_patch(earlier if isinstance(earlier, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def size_fault(document: Mapping[str, Any], path: str) -> Fault | None:
    """Why a JSON object is too large to be kept; None when it is not. `path` is where the caller wrote it.

    Never descends beyond MAX_DEPTH.
    """
    keys = 0
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        keys += sum(len(value) for value in level if isinstance(value, dict))
        if keys > MAX_KEYS:
            return Fault(path=path, reason="TOO_LARGE", message=f"at most {MAX_KEYS} keys, counted at all levels")
        level = [member for value in level for member in _members(value) if isinstance(member, dict | list)]
        if not level:
            break
    else:
        return Fault(path=path, reason="TOO_DEEP", message=f"at most {MAX_DEPTH} objects and lists within each other")
    if len(orjson.dumps(document)) > MAX_BYTES:
        return Fault(path=path, reason="TOO_LARGE", message=f"at most {MAX_BYTES // 1024} KiB of JSON")
    return None


def times_of(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Microseconds since 1970 of every attribute that is a time (RFC 3339 with an offset), by field path."""
    return {join_path(path): (instant - _EPOCH) // _MICROSECOND for path, instant in _times(attributes, ())}


def _times(document: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], datetime]]:
    for name, value in document.items():
        if isinstance(value, str):
            if len(value) >= _SHORTEST_TIME and (instant := parse_instant(value)) is not None:
                yield (*above, name), instant
        elif isinstance(value, dict):
            yield from _times(value, (*above, name))


def _members(value: dict[str, Any] | list[Any]) -> Iterator[Any]:
    yield from value.values() if isinstance(value, dict) else value
