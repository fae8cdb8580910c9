"""Doing things at a pace, whether or not those before have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def at_pace(do: Callable[[int], Awaitable[None]], count: int, a_second: float) -> None:
    """`do(0)` … `do(count - 1)`, so many a second; returns when all have ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    doing: list[asyncio.Task[None]] = []
    for number in range(count):
        await asyncio.sleep(began + number / a_second - loop.time())
        doing.append(asyncio.ensure_future(do(number)))
    await asyncio.gather(*doing)
