"""Instants as text: RFC 3339 with an offset. Order, `within`, windows and attribute times share this one reader."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]"
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_AFTER_LAST = datetime(2201, 1, 1, tzinfo=UTC)


def parse_instant(text: str) -> datetime | None:
    """The instant in UTC, or None when this is not one.

    The offset is required; microseconds are kept and further digits cut; years 1900 to 2200, counted in UTC. No leap
    seconds (`:60`) and no `24:00`: neither has a place on the line of microseconds that everything is compared on.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    offset = timedelta()
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            return None
        offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, tzinfo=UTC)
        instant = local + offset if sign == "-" else local - offset
    except (ValueError, OverflowError):
        return None
    return instant if _FIRST <= instant < _AFTER_LAST else None


def write_instant(instant: datetime) -> str:
    """The text of an aware instant, in UTC, as short as it can be without loss."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
