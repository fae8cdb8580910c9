"""JSON as the oracle reads it: values, lengths of time, and what a document names. Imports nothing of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

Json = Any
DAY = timedelta(days=1)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def at_path(document: Json, path: str, absent: Json) -> Json:
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return absent
        document = document[name]
    return document


def same(one: Json, other: Json) -> bool:
    """As JSON values; numbers by value."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def spelled(value: Json) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def span_of(text: str) -> timedelta:
    units = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": DAY}
    parts = re.findall(r"(\d+)([smhd])", text)
    return sum((int(count) * units[unit] for count, unit in parts), timedelta(0))


def instant_of(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if _INSTANT.fullmatch(text) else None


def inside(value: Json) -> Iterator[Json]:
    """The value, and all values within."""
    yield value
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from inside(member)


def texts_in(value: Json) -> Iterator[str]:
    return (part for part in inside(value) if isinstance(part, str))


def spans_in(document: Json) -> Iterator[timedelta]:
    """Every length of time that a predicate asks about."""
    for part in inside(document):
        if isinstance(part, dict):
            if part.get("type") == "last":
                yield span_of(part["duration"])
            if part.get("type") == "last_n_days":
                yield part["days"] * DAY
            if part.get("operator") in ("within", "not_within"):
                yield span_of(part["value"])


def times_in(document: Json) -> Iterator[datetime]:
    return (stamp for text in texts_in(document) if (stamp := instant_of(text)) is not None)


def segments_in(predicate: Json) -> Iterator[str]:
    return (part["cohortId"] for part in inside(predicate) if isinstance(part, dict) and "cohortId" in part)
