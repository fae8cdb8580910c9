"""Seeing to it that work is done which Temporal does: its schedule is there, and Temporal knows of every request."""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

#: Whether work is scheduled is looked at again after this.
SCHEDULE_LOOKED_AT = timedelta(minutes=5)

_Request = TypeVar("_Request")


class Requests(Protocol[_Request]):
    """What was asked for, as Postgres holds it."""

    async def claim_untold(self) -> Sequence[_Request]: ...

    async def not_told(self, untold: Iterable[_Request], /) -> None: ...


class Scheduled(Protocol):
    """The same work, as Temporal knows it."""

    async def ensure_schedule(self) -> None: ...


_Workflows = TypeVar("_Workflows")
_Regular = TypeVar("_Regular", bound=Scheduled)


class Errands(ABC, Generic[_Request, _Workflows]):
    """Run again and again by every worker; each time does what is left to do. Raises RPCError when Temporal is away."""

    def __init__(self, requests: Requests[_Request], workflows: _Workflows) -> None:
        self._requests = requests
        self._workflows = workflows

    @abstractmethod
    async def _see_to(self, request: _Request) -> None:
        """Tell Temporal of it. Raises RPCError."""

    async def run(self) -> None:
        """Tell Temporal of what was asked for; of what it could not be told of, the next look does."""
        claimed = await self._requests.claim_untold()
        told = await asyncio.gather(*(self._see_to(request) for request in claimed), return_exceptions=True)
        failures = {request: failure for request, failure in zip(claimed, told, strict=True) if failure is not None}
        if failures:
            await self._requests.not_told(failures)
            raise next(iter(failures.values()))


class RegularErrands(Errands[_Request, _Regular]):
    """Of work that is also done on schedule."""

    def __init__(
        self, requests: Requests[_Request], workflows: _Regular, *, look_again: timedelta = SCHEDULE_LOOKED_AT
    ) -> None:
        super().__init__(requests, workflows)
        self._look_again = look_again.total_seconds()
        self._scheduled_until = -math.inf

    async def ensure_schedule(self) -> None:
        """Have it scheduled as it should be; asks Temporal every few minutes, since people may change it."""
        if time.monotonic() >= self._scheduled_until:
            await self._workflows.ensure_schedule()
            self._scheduled_until = time.monotonic() + self._look_again
