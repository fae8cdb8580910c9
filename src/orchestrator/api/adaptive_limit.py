"""How many calls a server can have under way before more of them only wait: found out, not set.

What is watched is whether a queue stands: for a connection to Postgres, or for the loop in which everything runs.
Bursts make queues that pass, and are let in; a queue that has been there for a whole interval does no good to anybody
(CoDel's argument). Then fewer are let in, and more again while none stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Seconds: between two looks at the loop, and between two decisions.
LOOK_EVERY = 0.02
DECIDE_EVERY = 0.1
#: Seconds that everybody had to wait, in a whole interval, where a queue stands.
STANDING = 0.02
#: By what the limit is multiplied where a queue stands, where none does and half of the limit was not used, and what is
#: added to it where it was.
LESS = 0.7
FAR_MORE = 2
MORE = 2


class AdaptiveLimit:
    """Between `least` and `most` calls."""

    def __init__(self, *, least: int, most: int) -> None:
        self._least = min(least, most)
        self._most = most
        self.calls = most
        self._peak = 0

    def asked(self, inside: int) -> None:
        """Somebody wants to come in, and so many are inside."""
        self._peak = max(self._peak, inside)

    def decide(self, shortest_wait: float) -> None:
        """`shortest_wait`: the seconds that everybody had to wait since the last decision, at least."""
        if shortest_wait > STANDING:
            self.calls = max(self._least, int(self.calls * LESS))
        elif self._peak <= self.calls // 2:
            self.calls = min(self._most, self.calls * FAR_MORE)
        else:
            self.calls = min(self._most, self.calls + MORE)
        self._peak = 0

    async def watch(self, waits: Callable[[], float | None], lag: Callable[[float], None]) -> None:
        """Decide again and again, until cancelled. `waits`: the shortest wait for a connection since it was asked last;
        `lag` is told how late the loop was, in seconds.
        """
        loop = asyncio.get_running_loop()
        shortest, until = float("inf"), loop.time() + DECIDE_EVERY
        while True:
            due = loop.time() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            now = loop.time()
            late = now - due
            lag(late)
            shortest = min(shortest, late)
            if now >= until:
                self.decide(max(shortest, waits() or 0.0))
                shortest, until = float("inf"), now + DECIDE_EVERY
