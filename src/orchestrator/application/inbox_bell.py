"""Waking the consumers of the inbox."""

from __future__ import annotations

import asyncio

from orchestrator.application.transactions import Transactions
from orchestrator.storage import inbox_entries


class InboxBell:
    """One per process. However many ring at a time, one notification is on its way and at most one is waiting."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._rope = asyncio.Lock()
        self._waiting = False

    async def ring(self) -> None:
        """To be called after the commit of what consumers shall see, best by `call.after_commit`.

        A lost ring costs a second at most: consumers look by themselves as well.
        """
        if self._waiting:
            # Whoever waits has not notified yet: that will do for us, too.
            return
        self._waiting = True
        async with self._rope:
            self._waiting = False
            async with self._transactions.read(None) as conn:
                await inbox_entries.ring(conn)
