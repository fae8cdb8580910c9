"""Work that keeps a processor busy, beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


async def in_thread(work: Callable[_Given, _Result], *args: _Given.args, **named: _Given.kwargs) -> _Result:
    """What the work comes to, in a thread; what it raises is raised here, whatever it is.

    `asyncio.to_thread` alone never ends where the work raises StopIteration (up to Python 3.11), for that cannot be
    set on a future.
    """

    def told() -> _Result:
        try:
            return work(*args, **named)
        except StopIteration as stop:
            raise RuntimeError("work in a thread raised StopIteration") from stop

    return await asyncio.to_thread(told)
