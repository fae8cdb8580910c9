"""Telling the running executions of journeys that end them, or whose sends go on again, which may be millions, and for
which no caller waits."""

from __future__ import annotations

from orchestrator.application.canceling import BACKLOG, PAGE
from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, journey_pokes, outbox


class Closings:
    """Works through what archiving with `end`, forced deletion and the end of a pause leave behind. Processes share the
    work by locks, journeys take turns.
    """

    def __init__(self, transactions: Transactions, *, page: int = PAGE, backlog: int = BACKLOG) -> None:
        self._transactions = transactions
        self._page = page
        self._backlog = backlog

    async def step(self) -> bool:
        """One page; False when there is nothing to do, or much has still to be told."""
        async with self._transactions.write(None) as conn:
            if await outbox.is_backlog(conn, "poke", self._backlog):
                return False
            return await journey_pokes.poke_some(conn, await clock.now(conn), self._page)
