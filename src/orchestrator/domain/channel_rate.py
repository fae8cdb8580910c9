"""How many messages of a project go out by a channel in a second: what its provider takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

#: The order in which those are let out who wait for the same channel: those who were let in with many come last. There
#: is room in front, should journeys ever send messages that somebody expects.
USUAL, BEHIND = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRate:
    """`per_second` in the long run; after a rest, `burst` at once. So within any time of t seconds no more calls to the
    provider begin than per_second × t + burst.
    """

    channel: str
    per_second: float
    burst: int = 1

    @property
    def gap(self) -> timedelta:
        """Between two calls."""
        return timedelta(seconds=1 / self.per_second)

    @property
    def slack(self) -> timedelta:
        """How much earlier than evenly a call may be made."""
        return self.gap * (self.burst - 1)

    def room(
        self, used_to: datetime | None, closed_until: datetime | None, now: datetime, within: timedelta = timedelta(0)
    ) -> int:
        """How many calls may be made from now on until `within` later, where the rate has been used up to `used_to`
        (None: it never was) and the provider wants nothing before `closed_until`.
        """
        first = (max(used_to, now) if used_to is not None else now) - self.slack
        if closed_until is not None:
            first = max(first, closed_until)
        ahead = now + within - first
        return 0 if ahead < timedelta(0) else math.floor(ahead / self.gap) + 1
