"""How a part of the process that looks again and again is told to stop."""

from __future__ import annotations

import asyncio
import contextlib


class Stopping:
    """Set once, and waited for between two looks."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def within(self, seconds: float) -> bool:
        """Whether it is set by then; returns as soon as it is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        return self._event.is_set()
