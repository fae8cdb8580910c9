"""Times of day at which something may be, or may not be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """From `start` to `end`, as a subject's clock shows them; where `end` is not later, it is that of the next day.

    Only those that start on one of these days of the week (0: Monday; none: any day).
    """

    start: time
    end: time
    weekdays: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """During which nothing goes out on these channels (none: on any)."""

    hours: Hours
    channels: frozenset[str] = frozenset()
