"""What can stand between a subject and a message. Pure: SQL loads, gates decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: In an opt-out or a suppression: every channel, every category.
ANY = "*"

SUPPRESSED = "suppressed"
OPTED_OUT = "opted_out"


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
