"""How many of those may be under way at once who show no key (those who do: api/admission_control.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.api.errors import TooManyCalls


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
