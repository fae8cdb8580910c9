"""Keys that are tried: an address may be wrong now and then, and not a thousand times a minute."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from orchestrator.api.errors import TooManyCalls
from orchestrator.domain.refusals import Unauthenticated

#: So many wrong keys at once, and as many in every minute after that, where nothing else is set.
PER_MINUTE = 100
#: So many addresses are remembered, and so many good keys of each; the oldest are forgotten first.
ADDRESSES = 10_000
GOOD_KEYS = 32


class TooManyGuesses(TooManyCalls):
    """Too many keys from this address were wrong. Nobody has looked at this one."""

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("RATE_LIMITED", "too many keys from this address were not valid: try again later")
        self.retry_after = retry_after


@dataclass(slots=True)
class _Try:
    calls: int = 0
    was_wrong: bool = False


@dataclass(slots=True)
class _Address:
    #: How many tries it has left, and when that was counted.
    left: float
    at: float
    good: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    under_way: dict[bytes, _Try] = field(default_factory=dict)


class Guesses:
    """Counts, by address, the keys that are tried and were never found good from there.

    A key that was good once is not counted there again: who guesses does not shut out who knows.
    """

    def __init__(self, per_minute: int = PER_MINUTE, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    @contextmanager
    def one(self, peer: str, mark: bytes) -> Iterator[None]:
        """A key is tried; the block raises Unauthenticated if it is not valid. Raises TooManyGuesses.

        A crowd that tries the same key at the same time tries one key.
        """
        address = self._address(peer)
        if mark in address.good:
            yield
            return
        trying = address.under_way.get(mark)
        if trying is None:
            self._spend(address)
            trying = address.under_way[mark] = _Try()
        trying.calls += 1
        try:
            yield
            address.good[mark] = None
            if len(address.good) > GOOD_KEYS:
                address.good.popitem(last=False)
        except Unauthenticated:
            trying.was_wrong = True
            raise
        finally:
            trying.calls -= 1
            if not trying.calls:
                del address.under_way[mark]
                if not trying.was_wrong:
                    address.left += 1

    def _address(self, peer: str) -> _Address:
        address = self._addresses.get(peer)
        if address is None:
            address = self._addresses[peer] = _Address(self._per_minute, self._clock())
            if len(self._addresses) > ADDRESSES:
                self._addresses.popitem(last=False)
        self._addresses.move_to_end(peer)
        return address

    def _spend(self, address: _Address) -> None:
        now = self._clock()
        regained = (now - address.at) * self._per_minute / 60
        address.left, address.at = min(self._per_minute, address.left + regained), now
        if address.left < 1:
            raise TooManyGuesses(timedelta(seconds=(1 - address.left) * 60 / self._per_minute))
        address.left -= 1
