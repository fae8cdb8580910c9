"""What is left of deleted subjects: removed some at a time, since a deletion itself holds off ingest."""

from __future__ import annotations

from orchestrator.application.transactions import Transactions
from orchestrator.storage import deleted_subjects, erasing


class Remains:
    """Processes share the work by locks. Stopped or killed anywhere, the next look goes on."""

    def __init__(self, transactions: Transactions, *, at_once: int = erasing.AT_ONCE) -> None:
        self._transactions = transactions
        self._at_once = at_once

    async def step(self) -> bool:
        """Some of one subject; False when there is nothing to do."""
        async with self._transactions.write(None) as conn:
            key = await deleted_subjects.take(conn)
            if key is None:
                return False
            if await erasing.erase(conn, key, self._at_once):
                await deleted_subjects.done(conn, key)
            return True
