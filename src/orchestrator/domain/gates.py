"""What can stand between a subject and a message. Pure: SQL loads, gates decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from orchestrator.domain.hours import Hours, QuietHours
from orchestrator.domain.journey import OnBlocked
from orchestrator.domain.local_time import end_of, next_start_of

#: In an opt-out, a suppression or a cap: every channel, every category.
ANY = "*"

# Why a send is blocked.
SUPPRESSED = "suppressed"
OPTED_OUT = "opted_out"
SENDS_PAUSED = "sends_paused"
SEND_WINDOW = "send_window"
QUIET_HOURS = "quiet_hours"
FREQUENCY_CAP = "frequency_cap"
CHANNEL_RATE = "channel_rate"

#: What a send step does that does not say: the night is waited for, everything else is passed over.
USUAL: Mapping[str, OnBlocked] = {
    SUPPRESSED: OnBlocked.SKIP,
    OPTED_OUT: OnBlocked.SKIP,
    SEND_WINDOW: OnBlocked.WAIT,
    QUIET_HOURS: OnBlocked.WAIT,
    FREQUENCY_CAP: OnBlocked.SKIP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What a subject has refused: (channel, category) pairs opted out of, and channels that are suppressed."""

    opt_outs: frozenset[tuple[str, str]] = frozenset()
    suppressed: frozenset[str] = frozenset()

    def blocks(self, channel: str, category: str) -> str | None:
        """The reason why nothing of this category may go out on this channel; None when it may.

        A suppression blocks every category: it says the channel does not reach, or must not reach, this person at all.
        """
        if channel in self.suppressed or ANY in self.suppressed:
            return SUPPRESSED
        pairs = ((c, k) for c in (channel, ANY) for k in (category, ANY))
        return OPTED_OUT if any(pair in self.opt_outs for pair in pairs) else None

    def blocks_all(self, routes: Iterable[tuple[str, str]]) -> str | None:
        """The reason why none of these (channel, category) routes is open; None when one is, or when there are none."""
        reasons = [self.blocks(channel, category) for channel, category in routes]
        return reasons[0] if reasons and all(reasons) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyCap:
    """At most `limit` messages within any `window` to one subject, on this channel, of this category (or of ANY).

    What counts is that a message was begun, by whichever journey, and has not failed.
    """

    channel: str
    category: str
    limit: int
    window: timedelta

    def is_about(self, channel: str, category: str) -> bool:
        return self.channel in (channel, ANY) and self.category in (category, ANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """`opens`: when time alone will have opened the gate; None: it will not."""

    reason: str
    opens: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What holds off messages that a subject would take.

    `paused`: the project or the journey sends nothing for now. `full` has the caps that let nothing more through at
    some time, and from when on they do again. `crowded` has the channels at which it is not this execution's turn.
    """

    paused: bool = False
    quiet: QuietHours | None = None
    full: Mapping[FrequencyCap, datetime] = field(default_factory=dict)
    crowded: frozenset[str] = frozenset()

    def blocks(
        self, channel: str, category: str, window: Hours | None, zone: ZoneInfo, now: datetime
    ) -> Blocked | None:
        """What stands against a message that may go out in this window only; None: nothing."""
        if self.paused:
            return Blocked(reason=SENDS_PAUSED)
        if channel in self.crowded:  # the others are asked when its turn has come: they may be open by then, or shut
            return Blocked(reason=CHANNEL_RATE)
        if window is not None and end_of(window, now, zone) is None:
            return Blocked(reason=SEND_WINDOW, opens=next_start_of(window, now, zone))
        quiet = self.quiet
        held = quiet.hours if quiet is not None and (not quiet.channels or channel in quiet.channels) else None
        if held is not None and (end := end_of(held, now, zone)) is not None:
            return Blocked(reason=QUIET_HOURS, opens=end)
        opens = [at for cap, at in self.full.items() if cap.is_about(channel, category) and now < at]
        return Blocked(reason=FREQUENCY_CAP, opens=max(opens)) if opens else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A message that counts for caps: one that was begun at that instant, and has not failed."""

    channel: str
    category: str
    at: datetime


def full(caps: Iterable[FrequencyCap], messages: Iterable[Counted], now: datetime) -> dict[FrequencyCap, datetime]:
    """The caps that let nothing more through at `now`, and from when on they do: what storage/sends.py finds in the
    ledger, of messages that are in none."""
    found: dict[FrequencyCap, datetime] = {}
    sent = list(messages)
    for cap in caps:
        within = sorted(
            (one.at for one in sent if cap.is_about(one.channel, one.category) and one.at > now - cap.window),
            reverse=True,
        )
        if len(within) >= cap.limit:
            found[cap] = within[cap.limit - 1] + cap.window
    return found
