"""Connecting to a Postgres that may be away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: In seconds: for how long nobody tries to connect after somebody has tried in vain.
PAUSE = 0.25


class Connector:
    """Connects for a pool, as `asyncpg.connect` does.

    Whoever wants a connection of a database that is away would try to get one, and a thousand executions that have
    become due want one each, again and again. So after a try in vain the others are told for a moment that nobody is
    there: ConnectionRefusedError.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._not_before = 0.0

    async def __call__(self, *arguments: Any, **keywords: Any) -> Connection[Record]:
        """Raises OSError and asyncpg's errors."""
        if self._clock() < self._not_before:
            raise ConnectionRefusedError("PostgreSQL was not there a moment ago")
        try:
            return await asyncpg.connect(*arguments, **keywords)
        except (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
            self._not_before = self._clock() + PAUSE
            raise
