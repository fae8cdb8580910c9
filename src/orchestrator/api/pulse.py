"""How much later Postgres answers than it has to, when it is asked what costs nothing.

Calls that have a connection may still stand in a queue: for the cores of Postgres or for ours. Nobody waits for
anything then that could be seen, and all of them take longer, each by as much as it computes. What computes nothing is
late by the queue alone. So that is asked in between, while several calls are under way, on a connection of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

from asyncpg import Pool, Record

from orchestrator.storage import clock
from orchestrator.storage.pool import connection

#: Seconds between two questions.
ASK_EVERY = 0.02
#: Seconds after which the shortest way to Postgres and back is found out anew: another one may be longer.
KEPT_FOR = 60.0
#: Fewer answers since the last look say nothing, unless they are so late that there cannot be more.
FEWEST_ANSWERS = 2
#: Seconds for which an answer is waited for. It is as late as that then.
LONGEST = 1.0


class Pulse:
    """Asks, and knows how late the answers are."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        *,
        is_wanted: Callable[[], bool],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` returns when it is answered. Nobody is asked while `is_wanted` says no."""
        self._ask = ask
        self._is_wanted = is_wanted
        self._timer = timer
        self._took: list[float] = []
        # When it was asked what is not answered yet.
        self._asked_at: float | None = None
        # Of the last minute, and of the one before.
        self._shortest = self._shortest_before = float("inf")
        self._began = timer()

    async def watch(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await asyncio.sleep(ASK_EVERY)
            if self._is_wanted():
                await self.beat()

    async def beat(self) -> None:
        """Ask once. Who cannot be asked is none of this: it says nothing of a queue, and is noticed elsewhere."""
        self._asked_at = began = self._timer()
        try:
            async with asyncio.timeout(LONGEST):
                await self._ask()
        except TimeoutError:
            self._took.append(LONGEST)
            return
        except Exception:
            return
        finally:
            self._asked_at = None
        now = self._timer()
        if now - self._began > KEPT_FOR:
            self._shortest_before, self._shortest, self._began = self._shortest, float("inf"), now
        self._took.append(now - began)
        self._shortest = min(self._shortest, now - began)

    def lateness(self) -> float | None:
        """Seconds by which half of the answers since the last look were later than the soonest of the last minutes;
        None: there were too few. One that has not come yet is as late as it is by now.
        """
        took, self._took = self._took, []
        if self._asked_at is not None and (so_far := self._timer() - self._asked_at) > ASK_EVERY:
            took.append(so_far)
        if len(took) < FEWEST_ANSWERS and max(took, default=0.0) <= ASK_EVERY:
            return None
        return median(took) - min(self._shortest, self._shortest_before, *took)


async def postgres_answers(pool: Pool[Record]) -> None:
    """Ask Postgres for nothing but the time. Nobody else is to use this pool."""
    async with connection(pool) as conn:
        await clock.now(conn)
