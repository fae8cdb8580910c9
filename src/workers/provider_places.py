"""Places at providers: who does not answer keeps what he was given, and takes nothing from others.

A worker makes so many calls at once. Where all of them go to one provider, it has all of them; but as soon as others
are asked for, no provider has more than its share. What finds no place comes back later, and leaves the worker free:
for that a worker takes up a few tasks more than it has places.

A provider that a few calls in a row have not reached is away: it is called once a second, by whoever comes first, until
one of them gets an answer. Then it has all its places again.
"""

from __future__ import annotations

import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

#: Who came in vain comes back after a second or more: as many a second as this, of all who wait, but soon enough that
#: all who wait have come within a minute of a provider's return.
BACK_A_SECOND = 10
LONGEST = timedelta(seconds=45)
#: A provider is away that so many calls in a row have not reached; then one begins in so many seconds.
AWAY_AFTER = 10
BETWEEN_CALLS = 1.0
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
    """The provider has as many calls under way as it may, or is away. Come back after `retry_after`."""

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("provider_busy")
        self.retry_after = retry_after


@dataclass(slots=True)
class _Silence:
    """Of a provider that was not reached: how often in a row, and when it may be called next, once it is away."""

    calls: int = 0
    next_at: float = 0.0


class Place:
    """A place that is taken for one call. Whoever has made it tells whether the provider was there."""

    def __init__(self, places: ProviderPlaces, provider: Provider) -> None:
        self._places = places
        self._provider = provider

    def reached(self) -> None:
        """It has said yes or no."""
        self._places._silences.pop(self._provider, None)

    def unreached(self) -> None:
        """Nobody has answered."""
        self._places._not_reached(self._provider)


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
        self._silences: OrderedDict[Provider, _Silence] = OrderedDict()

    def look(self, task: Task) -> None:
        """Before anything is done for a task: raises NoPlace if it has come in vain before, and would again."""
        known = self._waiting.get(task)
        if known is not None and not self._has_place(known[0]):
            raise NoPlace(self._come_back(task, known[0]))

    @contextmanager
    def place(self, task: Task, provider: Provider) -> Iterator[Place]:
        """A place for a call. Raises NoPlace."""
        if not self._has_place(provider):
            raise NoPlace(self._come_back(task, provider))
        if (silence := self._silences.get(provider)) is not None:
            silence.next_at = self._clock() + BETWEEN_CALLS
        self._waiting.pop(task, None)
        self._inside[provider] += 1
        try:
            yield Place(self, provider)
        finally:
            self._inside[provider] -= 1
            if not self._inside[provider]:
                del self._inside[provider]

    def _has_place(self, provider: Provider) -> bool:
        silence = self._silences.get(provider)
        if silence is not None and silence.calls >= AWAY_AFTER and self._clock() < silence.next_at:
            return False
        if self._inside.total() < self._count:
            return True
        callers = len(self._inside.keys() | {provider})
        return self._inside[provider] < max(1, self._count // callers)

    def _not_reached(self, provider: Provider) -> None:
        silence = self._silences.setdefault(provider, _Silence())
        silence.calls += 1
        if silence.calls == AWAY_AFTER:
            silence.next_at = self._clock() + BETWEEN_CALLS
        self._silences.move_to_end(provider)
        if len(self._silences) > WAITING:
            self._silences.popitem(last=False)

    def _come_back(self, task: Task, provider: Provider) -> timedelta:
        now = self._clock()
        self._waiting[task] = provider, now
        self._waiting.move_to_end(task)
        while len(self._waiting) > WAITING or now - next(iter(self._waiting.values()))[1] > GONE_AFTER:
            self._waiting.popitem(last=False)
        longest = min(LONGEST, max(timedelta(seconds=1), timedelta(seconds=len(self._waiting) / BACK_A_SECOND)))
        return longest * random.uniform(0.5, 1)
