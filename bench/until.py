"""Waiting for what a bench has asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[bool]], *, within: float) -> None:
    """Returns when it holds, looking twenty times a second; raises TimeoutError after so many seconds."""
    async with asyncio.timeout(within):
        while not await holds():
            await asyncio.sleep(0.05)
