"""Times of day as a subject's clock shows them, also on the days on which clocks are changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import count, takewhile
from zoneinfo import ZoneInfo

from orchestrator.domain.hours import Hours
from orchestrator.domain.journey import AttributeDate
from orchestrator.predicates.instants import parse_instant

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_DAY_OF_CALENDAR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

#: Every day of the week comes within a week, and its time of today may be over.
_DAYS_LOOKED_AT = 8


def at_local(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """The instant, in UTC, at which clocks there show this time of that day.

    A time that clocks jump over is the instant of the jump; of one that they show twice, it is the first.
    """
    shown = datetime.combine(day, clock)
    instant = shown.replace(tzinfo=zone).astimezone(UTC)
    if _shown(instant, zone) == shown:
        return instant
    # Read by the offset before the jump it is too late by what is left of the gap, by the one after it too early.
    early, late = shown.replace(tzinfo=zone, fold=1).astimezone(UTC), instant
    while late - early > _SECOND:
        middle = early + (late - early) // 2
        early, late = (middle, late) if _shown(middle, zone) < shown else (early, middle)
    return late.replace(microsecond=0)


def _shown(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


def next_time_of_day(since: datetime, clock: time, weekdays: Collection[int], zone: ZoneInfo) -> datetime:
    """The first instant, `since` (aware) or later, at which clocks there show this time on one of these days.

    `weekdays`: 0 is Monday; none: any day.
    """
    today = since.astimezone(zone).date()
    for number in range(_DAYS_LOOKED_AT + 1):
        day = today + number * _DAY
        if (not weekdays or day.weekday() in weekdays) and (instant := at_local(day, clock, zone)) >= since:
            return instant
    raise AssertionError("every day of the week comes within a week")


def end_of(hours: Hours, now: datetime, zone: ZoneInfo) -> datetime | None:
    """When these hours end, if it is `now` within them; None when it is not."""
    begun = takewhile(lambda span: span[0] <= now, _spans(hours, now, zone))
    return next((end for _, end in begun if now < end), None)


def next_start_of(hours: Hours, now: datetime, zone: ZoneInfo) -> datetime:
    """When these hours start next, after `now`: a week later, perhaps, where clocks jump over them."""
    return next(start for start, _ in _spans(hours, now, zone) if start > now)


def _spans(hours: Hours, now: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
    """The hours of all days, in their order, from those that started yesterday on. None where clocks jump over them.

    It has no end: however many days have none, a later one has some.
    """
    today = now.astimezone(zone).date()
    for number in count(-1):
        day = today + number * _DAY
        if hours.weekdays and day.weekday() not in hours.weekdays:
            continue
        start = at_local(day, hours.start, zone)
        end = at_local(day if hours.start < hours.end else day + _DAY, hours.end, zone)
        if start < end:
            yield start, end


def attribute_date(wanted: AttributeDate, value: object, zone: ZoneInfo) -> datetime | None:
    """The instant that this value of the attribute stands for; None when it is neither an instant nor a day.

    The days of the offset are days of the calendar: three days before a day at nine is at nine, whatever the clocks do
    in between. From an instant without a `clock`, they are of 24 hours. Years are those of all instants: 1900 to 2200.
    """
    if not isinstance(value, str):
        return None
    is_day = _DAY_OF_CALENDAR.fullmatch(value) is not None
    instant = parse_instant(f"{value}T00:00:00Z" if is_day else value)
    if instant is None:
        return None
    if not is_day and wanted.clock is None:
        return instant + wanted.offset
    day = instant.date() if is_day else instant.astimezone(zone).date()
    days, rest = divmod(abs(wanted.offset), _DAY)
    sign = -1 if wanted.offset < timedelta(0) else 1
    return at_local(day + sign * days * _DAY, wanted.clock or time(), zone) + sign * rest
