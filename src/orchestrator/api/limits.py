"""How many calls may be under way at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.api.errors import TooManyCalls


class InFlightLimit:
    """Turns calls away at the door once `cap` are inside: who got in is served in time, the rest come back later."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self.inside = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one call. Raises TooManyCalls when all are taken."""
        if self.inside >= self._cap:
            raise TooManyCalls("RATE_LIMITED", "too many calls are under way: try again", limit=str(self._cap))
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class SharedPlaces:
    """Places for what anybody may ask for without a key: `altogether`, and no more than `each` from one address."""

    def __init__(self, *, altogether: int, each: int) -> None:
        self._altogether = altogether
        self._each = each
        self._inside = 0
        self._inside_of: Counter[str] = Counter()

    @contextmanager
    def place(self, peer: str) -> Iterator[None]:
        """A place for one of them. Raises TooManyCalls when there is none left, or none for this address."""
        if self._inside >= self._altogether or self._inside_of[peer] >= self._each:
            raise TooManyCalls("RATE_LIMITED", "too many of these are under way: try again")
        self._inside += 1
        self._inside_of[peer] += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._inside_of[peer] -= 1
            if not self._inside_of[peer]:
                del self._inside_of[peer]
