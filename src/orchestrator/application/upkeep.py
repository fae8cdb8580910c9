"""Housekeeping that keeps the tables of repeats small."""

from __future__ import annotations

from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, upkeep

#: Rows deleted in one transaction.
CHUNK = 5000


class Upkeep:
    """Removes stored answers after 7 days and event ids after 30."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def run(self) -> int:
        """Remove all that is due, chunk by chunk; returns how many rows went."""
        removed = 0
        for forget in (upkeep.forget_requests, upkeep.forget_event_ids):
            gone = CHUNK
            while gone == CHUNK:
                async with self._transactions.write(None) as conn:
                    gone = await forget(conn, await clock.now(conn), CHUNK)
                removed += gone
        return removed
