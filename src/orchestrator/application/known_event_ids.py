"""Forgetting the ids of events by which repeats are known, when they have had their time."""

from __future__ import annotations

import random
from collections.abc import Callable

from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, upkeep

#: Pages of each partition that are looked through in one transaction.
PAGES = 32

#: One run looks through all of them, or where there are more than so many of each partition, through this share.
MOST = 8192
SHARE = 24


class KnownEventIds:
    """Part of the upkeep. Stopped or killed anywhere, another run goes on.

    There is no index by age, which every event would pay for. What is too old is looked for where it lies: the table
    is read from its beginning to its end, some pages at a time, and the rest of a large one by the runs that follow.
    What is met a day late was known a day longer.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        #: The page at which the next run begins; None: this process has not begun yet.
        self._next: int | None = None

    async def run(self, go_on: Callable[[], bool] = lambda: True) -> int:
        """Forget those that are too old; returns how many."""
        async with self._transactions.read(None) as conn:
            pages = await upkeep.pages_of_event_ids(conn)
        if pages <= MOST:
            left, place = pages, 0
        else:
            # A process that seldom lives for long begins elsewhere each time.
            left, place = max(MOST, pages // SHARE), random.randrange(pages) if self._next is None else self._next
        removed = 0
        while left > 0 and go_on():
            place = place if place < pages else 0
            async with self._transactions.write(None) as conn:
                if not await upkeep.take_turn(conn, upkeep.Turn.EVENT_IDS):
                    return removed
                removed += await upkeep.forget_event_ids(conn, await clock.now(conn), range(place, place + PAGES))
            place += PAGES
            left -= PAGES
            self._next = place
        return removed
