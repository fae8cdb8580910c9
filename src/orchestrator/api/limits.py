"""How many calls may be under way at once."""

from __future__ import annotations

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
