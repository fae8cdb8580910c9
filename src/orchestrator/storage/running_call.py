"""The call that the running task serves: until when somebody waits for it, and whether it goes before others.

Kept beside the task and not handed through every function: what bounds a call has to hold for all that it does, also
for what is written later. It is the task's own. Tasks that it begins may outlive it, and have as much time as they
like.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    task: Task[Any] | None
    ends_at: float | None
    critical: bool


_running: ContextVar[_Running | None] = ContextVar("running_call", default=None)


@contextmanager
def running_call(*, ends_at: float | None = None, critical: bool = False) -> Iterator[None]:
    """What the block does in this task is done for such a call. `ends_at`: of the loop's clock, None: whenever."""
    token = _running.set(_Running(task=asyncio.current_task(), ends_at=ends_at, critical=critical))
    try:
        yield
    finally:
        _running.reset(token)


def time_left() -> float | None:
    """Seconds, not less than 0; None: nobody waits, or for as long as it takes."""
    running = _mine()
    if running is None or running.ends_at is None:
        return None
    return max(0.0, running.ends_at - asyncio.get_running_loop().time())


def is_critical() -> bool:
    """Whether it goes before others."""
    running = _mine()
    return running is not None and running.critical


def _mine() -> _Running | None:
    running = _running.get()
    return running if running is not None and running.task is asyncio.current_task() else None
