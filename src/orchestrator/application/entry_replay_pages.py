"""Working through replays of refused entries, page after page: each a transaction that decides and remembers how far it
came. Processes share the work by row locks.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

from asyncpg import Connection, Record

from orchestrator.application.entry_replays import note_end
from orchestrator.application.replayed_entries import PAGE, Decided, decide
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import RUNTIME
from orchestrator.domain.entry_replay import JOURNEY_NOT_ACTIVE
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.storage import clock, entry_replays, outbox, refused_entries
from orchestrator.storage.entry_replays import UnderWay
from orchestrator.storage.outages import is_nobodys_fault
from orchestrator.storage.outbox import Notice
from orchestrator.storage.refused_entries import Span

logger = logging.getLogger(__name__)

#: While so many entries of the outbox wait, no more are added.
BACKLOG = 1000


class _PageFailed(Exception):
    """The page that begins here failed, for a reason that is no outage: `__cause__`."""

    def __init__(self, at: UnderWay) -> None:
        super().__init__("a page of a replay failed")
        self.at = at


class EntryReplayPages:
    """Works through what `ask` leaves behind. Processes share the work by locks; each step may be cut off anywhere."""

    def __init__(self, transactions: Transactions, versions: Versions, *, page: int = PAGE) -> None:
        self._transactions = transactions
        self._versions = versions
        self._most = page

    async def step(self) -> list[Notice] | None:
        """One page: what Temporal is to be told; None when there is nothing to do, or the outbox is full."""
        try:
            return await self._page(self._most)
        except _PageFailed as failed:
            logger.info("a page is tried entry by entry", extra={"error": type(failed.__cause__).__name__})
            return await self._apart()

    async def _apart(self) -> list[Notice] | None:
        """As many as make a page, one by one; those that cannot be worked on are counted, and left where they are."""
        told: list[Notice] = []
        for number in range(self._most):
            try:
                page = await self._page(1)
            except _PageFailed as failed:
                logger.error("a refused entry cannot be decided on again", exc_info=failed.__cause__)
                page = await self._page(1, pass_over=failed.at)
            if page is None:
                return told if number else None
            told += page
        return told

    async def _page(self, most: int, *, pass_over: UnderWay | None = None) -> list[Notice] | None:
        """What Temporal is to be told after one page; None when there is none. `pass_over`: the page that begins there
        is only counted, unless somebody else has been at it."""
        async with self._transactions.write(None) as conn:
            at = await entry_replays.take(conn)
            if at is None or await outbox.is_backlog(conn, "start", BACKLOG):
                return None
            if pass_over is not None and pass_over.page != at.page:
                return []
            try:
                return await self._work(conn, at, most, pass_over=pass_over is not None)
            except Exception as error:
                if is_nobodys_fault(error):
                    raise
                raise _PageFailed(at) from error

    async def _work(self, conn: Connection[Record], under_way: UnderWay, most: int, *, pass_over: bool) -> list[Notice]:
        project_no, replay = under_way.project_no, under_way.replay
        span = Span(
            project_no=project_no,
            journey_id=replay.journey_id,
            reason=replay.reason,
            after=replay.after,
            before=replay.before,
        )
        entries = await refused_entries.page(conn, span, under_way.place, most)
        decided = Decided()
        try:
            if not pass_over:
                decided = await decide(conn, self._versions, span, entries)
            replay = replace(
                replay,
                looked_at=replay.looked_at + len(entries),
                enrolled=replay.enrolled + decided.enrolled,
                errors=replay.errors + (len(entries) if pass_over else 0),
                refused=dict(Counter(replay.refused) + decided.refused),
            )
        except FailedPrecondition:  # it can be asked for again when the journey takes subjects in
            entries = []
            replay = replace(replay, end_reason=JOURNEY_NOT_ACTIVE)
        now = await clock.now(conn)
        if len(entries) < most:
            replay = replace(replay, ended_at=now)
            await note_end(conn, project_no, RUNTIME, replay)
        place = entries[-1].place if entries else under_way.place
        await entry_replays.record(conn, project_no, replay, place, now)
        return decided.told
