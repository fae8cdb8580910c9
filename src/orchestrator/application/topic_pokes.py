"""Telling the executions of a project that await what a change of its settings or segments was about, which may be
millions, and for which no caller waits."""

from __future__ import annotations

from orchestrator.application.canceling import BACKLOG, PAGE
from orchestrator.application.transactions import Transactions
from orchestrator.storage import clock, outbox, topic_pokes


class TopicPokes:
    """Works through what such changes leave behind. Processes share the work by locks, projects take turns."""

    def __init__(self, transactions: Transactions, *, page: int = PAGE, backlog: int = BACKLOG) -> None:
        self._transactions = transactions
        self._page = page
        self._backlog = backlog

    async def step(self) -> bool:
        """One page; False when there is nothing to do yet."""
        async with self._transactions.write(None) as conn:
            one = await topic_pokes.take(conn)
            if one is None:
                return False
            now = await clock.now(conn)
            if one.barrier is None:
                await topic_pokes.raise_barrier(conn, one, now)
                return True
            if await outbox.is_backlog(conn, "poke", self._backlog):
                return False
            await topic_pokes.poke_some(conn, one, now, self._page)
            return True
