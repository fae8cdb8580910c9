"""Clocks and calendars as the oracle reads them: by looking at them often. Imports nothing of ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.core.oracle_json import Json, instant_of, span_of

DAY = timedelta(days=1)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
QUARTER = timedelta(minutes=15)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def within(now: datetime, hours: Json, zone: str) -> bool:
    """Whether clocks there show a time within these hours."""
    shown = now.astimezone(ZoneInfo(zone))
    start, end = (int(hours[name][:2]) * 60 + int(hours[name][3:]) for name in ("start", "end"))
    minute, day = shown.hour * 60 + shown.minute, shown.weekday()
    if start < end:
        inside = start <= minute < end
    else:
        inside = minute >= start or minute < end
        day = (day - 1) % 7 if minute < end else day
    return inside and ("weekdays" not in hours or DAYS[day] in hours["weekdays"])


def next_quarter(now: datetime) -> datetime:
    """The next instant at which hours can start or end."""
    return EPOCH + ((now - EPOCH) // QUARTER + 1) * QUARTER


def _crossings(start: datetime, end: datetime, clock: str, zone: str) -> list[tuple[datetime, datetime]]:
    """When clocks there come to this time of day, or jump past it, for the first time on each day; with that day.

    Found by looking at the clock every quarter of an hour: no time that is asked for lies between, and no jump.
    """
    place = ZoneInfo(zone)
    tick = EPOCH + (start - EPOCH) // QUARTER * QUARTER
    before = (tick - QUARTER).astimezone(place).replace(tzinfo=None)
    hour, minute = map(int, clock.split(":"))
    found: list[tuple[datetime, datetime]] = []
    seen: set[datetime] = set()
    while tick <= end:
        shown = tick.astimezone(place).replace(tzinfo=None)
        for midnight in {moment.replace(hour=0, minute=0, second=0, microsecond=0) for moment in (before, shown)}:
            if before < midnight + timedelta(hours=hour, minutes=minute) <= shown and midnight not in seen:
                seen.add(midnight)
                found.append((tick, midnight))
        before = shown
        tick += QUARTER
    return found


_next_shown_before: dict[tuple[Any, ...], datetime] = {}


def next_shown(since: datetime, clock: str, days: tuple[int, ...], zone: str) -> datetime:
    asked = (since, clock, days, zone)
    if asked not in _next_shown_before:
        # From two days before, so that a time that is shown twice is found to have been shown.
        _next_shown_before[asked] = next(
            tick
            for ahead in (2, 9)
            for tick, midnight in _crossings(since - 2 * DAY, since + ahead * DAY, clock, zone)
            if tick >= since and (not days or midnight.weekday() in days)
        )
    return _next_shown_before[asked]


def date_of(wanted: Json, value: Json, zone: str) -> datetime | None:
    """The instant a wait for a date is over."""
    if not isinstance(value, str):
        return None
    offset = -span_of(wanted["before"]) if "before" in wanted else span_of(wanted.get("after", "0s"))
    clock = wanted.get("time")
    stamp = instant_of(value)
    if stamp is not None and clock is None:
        return stamp + offset
    if stamp is not None:
        day = stamp.astimezone(ZoneInfo(zone)).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    elif _DATE.fullmatch(value):
        try:
            day = datetime.strptime(value, "%Y-%m-%d")  # noqa: DTZ007
        except ValueError:
            return None
    else:
        return None
    whole = timedelta(days=abs(offset) // DAY)
    day += -whole if offset < timedelta(0) else whole
    asked = (day, clock, zone)
    if asked not in _next_shown_before:
        noon = day.replace(tzinfo=UTC)
        _next_shown_before[asked] = next(
            tick for tick, midnight in _crossings(noon - DAY, noon + 3 * DAY, clock or "00:00", zone) if midnight == day
        )
    rest = timedelta(microseconds=abs(offset) // timedelta(microseconds=1) % (DAY // timedelta(microseconds=1)))
    return _next_shown_before[asked] + (-rest if offset < timedelta(0) else rest)
