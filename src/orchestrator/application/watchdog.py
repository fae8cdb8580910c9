"""Looking for executions that should have gone on and have not: for who asks, and once a minute for the metric. In the
same turn what nobody goes on with any more is settled.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.application.executions import Seen, require_journey
from orchestrator.application.transactions import Transactions
from orchestrator.domain.execution_status import status_of
from orchestrator.domain.scope import Scope
from orchestrator.storage import backlog, channel_turns, clock, executions_read, sends_pauses, stuck, unheard
from orchestrator.storage.backlog import Backlog
from orchestrator.storage.stuck import CAUSES, START, Bounds, Place

logger = logging.getLogger(__name__)

#: Between two counts.
PAUSE = timedelta(minutes=1)
#: A process that has not counted by then has died.
LEASE = timedelta(minutes=5)

#: A send or call whose execution ended so long ago is not under way any more: no try takes as long.
UNHEARD = timedelta(minutes=5)
#: Sends or calls that are looked at for it in one transaction.
AT_ONCE = 5000

#: Statements that look for one page of a list.
LOOKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """An execution, as the ledger has it, and what it should have done when."""

    seen: Seen
    cause: str
    due_at: datetime


async def page(
    conn: Connection[Record],
    scope: Scope,
    *,
    journey_id: str | None,
    overdue_by: timedelta | None,
    after: Place | None,
    limit: int,
) -> tuple[list[Late], Place | None]:
    """Those of the project, or of one of its journeys, that are late by so much (None: `Bounds`), and where the looking
    ended. A page may be short, or empty, and not the last.

    Raises NotFound when there never was such a journey.
    """
    now = await clock.now(conn)
    bounds = Bounds() if overdue_by is None else Bounds(moment=overdue_by, send=overdue_by)
    found: list[stuck.Stuck] = []
    end: Place | None = after or START
    for _ in range(LOOKS):
        assert end is not None, "the loop ends there"
        looked = await stuck.page(conn, scope.project_no, journey_id=journey_id, after=end, bounds=bounds, now=now)
        found += looked.stuck
        end = looked.end
        if end is None or len(found) > limit:
            break
    if len(found) > limit:
        found = found[:limit]
        end = found[-1].place
    if not found and after is None and end is None and journey_id is not None:
        await require_journey(conn, scope, journey_id)
    shown = await executions_read.by_id(conn, scope.project_no, [one.execution_id for one in found])
    late = [
        Late(
            seen=Seen(execution=execution, status=status_of(execution.outcome), live=False),
            cause=one.cause,
            due_at=one.due_at,
        )
        for one in found
        # What has ended meanwhile is well.
        if (execution := shown.get(one.execution_id)) is not None and execution.outcome is None
    ]
    return late, end


class Watchdog:
    """Counts for the metric, once a minute in one of all processes; the others tell what that one found. That one also
    settles sends and calls whose execution was ended in Temporal while they waited for their next try.
    """

    def __init__(self, transactions: Transactions, *, bounds: Bounds | None = None) -> None:
        self._transactions = transactions
        self._bounds = bounds or Bounds()

    async def look(self) -> Mapping[str, int]:
        """How many executions are late, by cause."""
        async with self._transactions.write(None) as conn:
            now = await clock.now(conn)
            mine = await stuck.take_turn(conn, now, now + LEASE)
        if mine:
            await self._settle_unheard()
            counts = await self._count()
            async with self._transactions.write(None) as conn:
                await stuck.note(conn, counts, await clock.now(conn) + PAUSE)
        async with self._transactions.read(None) as conn:
            noted = await stuck.noted(conn)
        return {cause: noted.get(cause, 0) for cause in CAUSES}

    async def sends_waiting(self) -> Mapping[str, int]:
        """How many sends wait for the turn of their channel, of all projects, by channel."""
        async with self._transactions.read(None) as conn:
            return await channel_turns.lengths(conn)

    async def auto_paused(self) -> int:
        """How many journeys have paused their sends by themselves, and wait for somebody to look at them."""
        async with self._transactions.read(None) as conn:
            return await sends_pauses.automatic(conn)

    async def backlog(self) -> Backlog:
        """What waits in inbox and outbox, and to be erased, of all projects."""
        async with self._transactions.read(None) as conn:
            return await backlog.look(conn, await clock.now(conn))

    async def _settle_unheard(self) -> None:
        settled = 0
        for settle in (unheard.settle_sends, unheard.settle_calls):
            place: unheard.Place | None = unheard.START
            while place is not None:
                async with self._transactions.write(None) as conn:
                    page = await settle(conn, await clock.now(conn) - UNHEARD, place, AT_ONCE)
                settled += page.settled
                place = page.end
        if settled:
            logger.warning("settled sends and calls whose executions were ended in temporal", extra={"count": settled})

    async def _count(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        async with self._transactions.read(None) as conn:
            projects = await stuck.projects(conn)
        for project_no in projects:
            place: Place | None = START
            while place is not None:
                async with self._transactions.read(None) as conn:
                    now = await clock.now(conn)
                    looked = await stuck.page(
                        conn, project_no, journey_id=None, after=place, bounds=self._bounds, now=now
                    )
                counts.update(one.cause for one in looked.stuck)
                place = looked.end
        return counts
