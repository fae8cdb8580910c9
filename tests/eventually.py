from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, within: float = 10.0) -> None:
    """Returns as soon as the condition holds; fails, naming it, if it does not within so many seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        holds = condition()
        if inspect.isawaitable(holds):
            holds = await holds
        if holds:
            return
        if asyncio.get_running_loop().time() > deadline:
            source = inspect.getsource(condition).strip()
            raise AssertionError(f"not within {within} s: {source}")
        await asyncio.sleep(0.02)
