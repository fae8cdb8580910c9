"""The call that the running task serves: until when somebody waits for it, whose it is, whether it goes before others,
and whether it computes for long.

Kept beside the task and not handed through every function: what bounds a call has to hold for all that it does, also
for what is written later. It is the task's own. Tasks that it begins may outlive it, and have as much time as they
like.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    task: Task[Any] | None
    ends_at: float | None
    caller: Hashable
    critical: bool
    heavy: bool


_running: ContextVar[_Running | None] = ContextVar("running_call", default=None)


@contextmanager
def running_call(
    *, ends_at: float | None = None, caller: Hashable = None, critical: bool = False, heavy: bool = False
) -> Iterator[None]:
    """What the block does in this task is done for such a call. `ends_at`: of the loop's clock, None: whenever."""
    token = _running.set(
        _Running(task=asyncio.current_task(), ends_at=ends_at, caller=caller, critical=critical, heavy=heavy)
    )
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


def caller() -> Hashable:
    """Whose it is; None: nobody's in particular."""
    running = _mine()
    return running.caller if running is not None else None


def is_critical() -> bool:
    """Whether it goes before others."""
    running = _mine()
    return running is not None and running.critical


def is_heavy() -> bool:
    """Whether it computes for long."""
    running = _mine()
    return running is not None and running.heavy


def _mine() -> _Running | None:
    running = _running.get()
    return running if running is not None and running.task is asyncio.current_task() else None
