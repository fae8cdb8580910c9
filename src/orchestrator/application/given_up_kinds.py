"""Giving up kinds of events that nothing asks about any more: every kind costs ingest a question for each event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from asyncpg import Connection, Record

from orchestrator.application.transactions import Transactions
from orchestrator.domain.subject import BUCKETS
from orchestrator.predicates.faults import Unreadable
from orchestrator.storage import asked_events, clock, derived_events, given_up_kinds, projects, upkeep

logger = logging.getLogger(__name__)

#: A kind is counted for so long at least: what is saved anew after it was deleted need not be counted anew.
KEPT = timedelta(days=1)

#: Subjects that are forgotten in one transaction.
AT_ONCE = 2000


class GivenUpKinds:
    """Part of the upkeep. Stopped or killed anywhere, the next run goes on."""

    def __init__(self, transactions: Transactions, *, kept: timedelta = KEPT) -> None:
        self._transactions = transactions
        self._kept = kept

    async def run(self, go_on: Callable[[], bool] = lambda: True) -> int:
        """Give up what is not asked about, and remove what was counted; returns how many counts of subjects went."""
        async with self._transactions.read(None) as conn:
            counting = await derived_events.projects(conn)
        for project_no in counting:
            await self._give_up(project_no)
        removed = 0
        async with self._transactions.read(None) as conn:
            waiting = await given_up_kinds.waiting(conn)
        for project_no, name_nos in waiting.items():
            removed += await self._forget(project_no, name_nos, go_on)
        return removed

    async def _give_up(self, project_no: int) -> None:
        async with self._transactions.read(None) as conn:
            if not await self._idle(conn, project_no):
                return
        async with self._transactions.write(None) as conn:
            # Whoever is about to save something that asks about a kind has committed, or finds it gone.
            await projects.touch_definitions(conn, project_no)
            if idle := await self._idle(conn, project_no):
                await given_up_kinds.give_up(conn, project_no, idle, await clock.now(conn))

    async def _idle(self, conn: Connection[Record], project_no: int) -> list[int]:
        """The numbers of kinds that nothing asks about; none while it cannot be told what is asked."""
        try:
            known = await derived_events.older(conn, project_no, await clock.now(conn) - self._kept)
            asked = await asked_events.kinds(conn, project_no)
        except Unreadable:
            logger.warning("no kinds of events are given up: something that may ask about them does not read")
            return []
        return sorted(number for source, number in known.items() if source not in asked)

    async def _forget(self, project_no: int, name_nos: Sequence[int], go_on: Callable[[], bool]) -> int:
        removed = 0
        for bucket in range(BUCKETS):
            gone = AT_ONCE
            while gone == AT_ONCE:
                if not go_on():
                    return removed
                async with self._transactions.write(None) as conn:
                    if not await upkeep.clear_alone(conn, project_no):
                        return removed
                    gone = await given_up_kinds.forget(conn, project_no, bucket, name_nos, AT_ONCE)
                removed += gone
        async with self._transactions.write(None) as conn:
            await given_up_kinds.done(conn, project_no, name_nos)
        return removed
