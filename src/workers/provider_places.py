"""Places at providers: who does not answer keeps what he was given, and takes nothing from others.

A worker makes so many calls at once. Where all of them go to one provider, it has all of them; but as soon as others
are asked for, no provider has more than its share. What finds no place comes back later, and leaves the worker free:
for that a worker takes up a few tasks more than it has places.
"""

from __future__ import annotations

import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

#: Who came in vain comes back after a second or more: as many a second as this, of all who wait, but within a minute.
BACK_A_SECOND = 10
LONGEST = timedelta(minutes=1)
#: So many who wait are remembered; who has not come back for so long will not.
WAITING = 20_000
GONE_AFTER = 3 * LONGEST.total_seconds()


@dataclass(frozen=True, slots=True)
class Provider:
    """Somebody who is called, for a project: a host, or what a channel has only one of."""

    project_no: int
    name: str


@dataclass(frozen=True, slots=True)
class Task:
    """One pass of an execution over a step."""

    execution_id: str
    seq: int


class NoPlace(Exception):
    """The provider has as many calls under way as it may. Come back after `retry_after`."""

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("provider_busy")
        self.retry_after = retry_after


class ProviderPlaces:
    """Of one kind of calls, in one process."""

    def __init__(self, count: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`count`: calls under way at once, of all providers together. Where several are called, it may be exceeded by
        the shares of those who came later.
        """
        self._count = count
        self._clock = clock
        self._inside: Counter[Provider] = Counter()
        self._waiting: OrderedDict[Task, tuple[Provider, float]] = OrderedDict()

    def look(self, task: Task) -> None:
        """Before anything is done for a task: raises NoPlace if it has come in vain before, and would again."""
        known = self._waiting.get(task)
        if known is not None and not self._has_place(known[0]):
            raise NoPlace(self._come_back(task, known[0]))

    @contextmanager
    def place(self, task: Task, provider: Provider) -> Iterator[None]:
        """A place for a call. Raises NoPlace."""
        if not self._has_place(provider):
            raise NoPlace(self._come_back(task, provider))
        self._waiting.pop(task, None)
        self._inside[provider] += 1
        try:
            yield
        finally:
            self._inside[provider] -= 1
            if not self._inside[provider]:
                del self._inside[provider]

    def _has_place(self, provider: Provider) -> bool:
        if self._inside.total() < self._count:
            return True
        callers = len(self._inside.keys() | {provider})
        return self._inside[provider] < max(1, self._count // callers)

    def _come_back(self, task: Task, provider: Provider) -> timedelta:
        now = self._clock()
        self._waiting[task] = provider, now
        self._waiting.move_to_end(task)
        while len(self._waiting) > WAITING or now - next(iter(self._waiting.values()))[1] > GONE_AFTER:
            self._waiting.popitem(last=False)
        longest = min(LONGEST, max(timedelta(seconds=1), timedelta(seconds=len(self._waiting) / BACK_A_SECOND)))
        return longest * random.uniform(0.5, 1)
