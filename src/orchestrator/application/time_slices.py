"""Long work on the loop that lets others in."""

from __future__ import annotations

import asyncio
import time

#: Seconds. Whoever waits, waits so long for each of those that work.
LENGTH = 0.005


class TimeSlice:
    """Of work that is made of many small pieces: between two of them,

    if time.over: await time.next()
    """

    def __init__(self) -> None:
        self._ends = time.monotonic() + LENGTH

    @property
    def over(self) -> bool:
        return time.monotonic() > self._ends

    async def next(self) -> None:
        """Returns when the others have had their turn."""
        await asyncio.sleep(0)
        self._ends = time.monotonic() + LENGTH
