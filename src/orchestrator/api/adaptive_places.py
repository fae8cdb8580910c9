"""How many calls work at once: found out, not set.

Of those who have a connection only as many get on as there are cores for them, Postgres's and ours. More of them take
longer, all of them, and so does whoever only wants to be told that there is no place (adaptive_limit.py). So while
cores are short fewer work at a time, and the others wait in line, where they cost nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.storage.pool import Places

#: So many places at least: they keep a process busy, which computes on one core, and what Postgres computes for it
#: meanwhile.
FEWEST = 4
#: Seconds between two decisions.
DECIDE_EVERY = 0.1
#: Seconds by which half of the answers that cost nothing (pulse.py) are late where cores are short. They come within a
#: tenth of that where one is free.
LATE = 0.001
#: By what the places are multiplied where cores are short, and what is added to them where they are not.
LESS = 0.5
MORE = 2


class AdaptivePlaces:
    """Allows more of these places, or fewer."""

    def __init__(self, places: Places) -> None:
        self._places = places

    @property
    def are_fewer(self) -> bool:
        """Whether not all of them are allowed."""
        return self._places.allowed < self._places.count

    def decide(self, lateness: float) -> None:
        """`lateness`: that of half of the answers since the last decision, in seconds."""
        allowed = self._places.allowed
        if lateness > LATE:
            self._places.allow(max(FEWEST, int(allowed * LESS)))
        else:
            self._places.allow(allowed + MORE)

    async def watch(self, lateness: Callable[[], float | None]) -> None:
        """Decide again and again, until cancelled."""
        while True:
            await asyncio.sleep(DECIDE_EVERY)
            if (late := lateness()) is not None:
                self.decide(late)
