"""When a journey enrolls a crowd by itself: once, or again and again by the clocks of a time zone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MAX_CRON = 128

#: A firing that was due while nobody could see to it is made up for if it was due no longer ago than this.
CATCH_UP = timedelta(hours=1)

# Nothing that calendars in Temporal cannot say: no last days, no third Fridays, no random minutes.
_FIELD = re.compile(r"[0-9*/,-]+|[A-Z]{3}(?:[-,][A-Z]{3})*", re.IGNORECASE)

# With a 29th of February soon.
_SOME_YEAR = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """Five fields, and the minutes, hours, days, months and weekdays (0: Sunday) that they mean, ascending."""

    expression: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Either `at` that instant, in whole seconds, or by `cron` in a time zone of the IANA database.

    Enrolled is a segment, or `everyone`, or, with neither, the journey's audience; at most `rate` a second.
    """

    at: datetime | None = None
    cron: Cron | None = None
    time_zone: str = "UTC"
    segment_id: str | None = None
    everyone: bool = False
    rate: int | None = None

    @property
    def has_crowd(self) -> bool:
        """Whether it says itself who is enrolled."""
        return self.everyone or self.segment_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """A schedule within the dates of its version."""

    schedule: Schedule
    starts_at: datetime | None
    ends_at: datetime | None

    def after(self, now: datetime, count: int) -> list[datetime]:
        """The next `count` instants at which it fires, if there are so many."""
        begin = now if self.starts_at is None else max(now, self.starts_at - timedelta(seconds=1))
        return [at for at in islice(self._instants(begin), count) if self.ends_at is None or at < self.ends_at]

    def is_over(self, now: datetime) -> bool:
        """Whether nothing will be due any more, not even to be made up for."""
        return not self.after(now - CATCH_UP, 1)

    def _instants(self, begin: datetime) -> Iterator[datetime]:
        if self.schedule.cron is not None:
            local = begin.astimezone(ZoneInfo(self.schedule.time_zone))
            for at in CronSim(self.schedule.cron.expression, local):
                yield at.astimezone(UTC)
        elif self.schedule.at is not None and self.schedule.at > begin:
            yield self.schedule.at


def read_cron(text: str) -> Cron:
    """Raises ValueError with a sentence for the caller."""
    fields = text.split()
    if len(fields) != 5:
        raise ValueError("has five fields: minute, hour, day of the month, month, day of the week, such as 0 9 * * mon")
    if not all(_FIELD.fullmatch(field) for field in fields):
        raise ValueError("a field is *, numbers, names of months or days, with - , and /")
    if not (fields[2].startswith("*") or fields[4].startswith("*")):
        raise ValueError("names days of the month or days of the week, not both")
    try:
        times = CronSim(text, _SOME_YEAR)
        next(times)
    except CronSimError as error:
        raise ValueError(f"cannot be read: {error}") from None
    except StopIteration:
        raise ValueError("is never due") from None
    # The fields that are let through have no last days and no third Fridays; 7 is another name of Sunday.
    weekdays = {day % 7 for day in times.weekdays if isinstance(day, int)}
    return Cron(
        expression=" ".join(fields),
        minutes=tuple(sorted(times.minutes)),
        hours=tuple(sorted(times.hours)),
        days=tuple(sorted(times.days)),
        months=tuple(sorted(times.months)),
        weekdays=tuple(sorted(weekdays)),
    )
