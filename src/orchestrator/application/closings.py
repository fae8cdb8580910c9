"""Telling the running executions of journeys that end them, which may be millions, and for which no caller waits."""

from __future__ import annotations

from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, journey_pokes

#: Executions in one transaction.
PAGE = 1000


class Closings:
    """Works through what archiving with `end` and forced deletion leave behind. Processes share the work by locks."""

    def __init__(self, transactions: Transactions, *, page: int = PAGE) -> None:
        self._transactions = transactions
        self._page = page

    async def step(self) -> bool:
        """One page; False when there was nothing to do."""
        async with self._transactions.write(None) as conn:
            return await journey_pokes.poke_some(conn, await clock.now(conn), self._page) is not None
