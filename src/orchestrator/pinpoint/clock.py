"""Times and lengths of time as Pinpoint writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from orchestrator.domain.durations import format_duration
from orchestrator.pinpoint.finding import Discoveries
from orchestrator.pinpoint.reading import place, read_time
from orchestrator.predicates.instants import parse_instant, write_instant
from orchestrator.predicates.spans import read_span

_OFFSET = re.compile(r"UTC(?:([+-])([0-9]{1,2})(?::([0-9]{2}))?)?")
_CLOCK = re.compile(r"T?([01][0-9]|2[0-3]):([0-5][0-9])(?::[0-5][0-9])?Z?")


def read_duration(found: Discoveries, value: str | None, path: str) -> timedelta | None:
    """A duration of ISO 8601; None where there is none, or a faulty one."""
    if not value:
        return None
    try:
        return read_span(value)
    except ValueError as error:
        found.fault(path, "INVALID_VALUE", str(error))
        return None


def read_wait(found: Discoveries, body: Mapping[str, Any], path: str) -> timedelta | datetime | None:
    """`WaitTime`: for how long, or until when. None: not at all."""
    if body.get("WaitUntil"):
        if body.get("WaitFor"):
            found.fault(path, "INVALID_VALUE", "waits either for some time or until a time, not both")
        return read_instant(found, body["WaitUntil"], place(path, "WaitUntil"), UTC)
    return read_duration(found, body.get("WaitFor"), place(path, "WaitFor")) or None


def read_instant(found: Discoveries, value: str, path: str, without_offset: timezone) -> datetime | None:
    """An instant in whole seconds, in UTC."""
    time = read_time(value)
    if time is not None:
        time = time.replace(microsecond=0, tzinfo=time.tzinfo or without_offset)
        instant = parse_instant(time.isoformat())
        if instant is not None:
            return instant
    found.fault(path, "INVALID_VALUE", "must be a time of ISO 8601, such as 2026-03-01T09:00:00Z")
    return None


def read_offset(found: Discoveries, value: str | None, path: str) -> timezone:
    """`UTC+05:30`; UTC where there is none."""
    if not value:
        return UTC
    match = _OFFSET.fullmatch(value)
    hours, minutes = (int(match[2] or 0), int(match[3] or 0)) if match else (99, 0)
    if match is None or hours > 14 or minutes > 59:
        found.fault(path, "INVALID_VALUE", "must be an offset such as UTC, UTC-07 or UTC+05:30")
        return UTC
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if match[1] == "-" else offset)


def read_clock(found: Discoveries, value: str | None, path: str) -> str | None:
    """`HH:MM`."""
    match = _CLOCK.fullmatch(value or "")
    if match is None:
        found.fault(path, "INVALID_VALUE" if value else "REQUIRED", "must be a time of the day such as 08:30")
        return None
    return f"{match[1]}:{match[2]}"


def written(time: timedelta | datetime) -> str:
    return write_instant(time) if isinstance(time, datetime) else format_duration(time)
