"""Ending the wait of entries that were held while their journey was paused, of which there may be millions, and for
which no caller waits."""

from __future__ import annotations

from datetime import datetime

from orchestrator.application.refused_entries import RefusedEntries
from orchestrator.application.transactions import Transactions
from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.journey import JourneyStatus
from orchestrator.predicates.instants import parse_instant
from orchestrator.storage import clock, held_entries, outbox
from orchestrator.storage.held_entries import HoldingJourney

#: Entries released or dropped by one transaction; and those that may wait for the consumer's look at a time.
PAGE = 500

#: Others go first while Temporal has so many starts still to be told.
UNTOLD = 1000


class HeldEntries:
    """Has those looked at whose journey was resumed, and drops those whose journey is over, some at a time. Processes
    share the work by locks; each page may be cut off anywhere, and the next one goes on.
    """

    def __init__(self, transactions: Transactions, *, page: int = PAGE) -> None:
        self._transactions = transactions
        self._page = page

    async def step(self) -> bool:
        """One page of each journey; False when there is no more that can be done now."""
        async with self._transactions.read(None) as conn:
            holding = await held_entries.holding(conn)
        moved = 0
        for one in holding:
            async with self._transactions.write(None) as conn:
                now = await clock.now(conn)
                over = _over(one, now)
                if over is not None:
                    dropped = await held_entries.drop_some(conn, one.project_no, one.journey_id, self._page)
                    refused = RefusedEntries()
                    for entry in dropped:
                        refused.add(entry.key, one.journey_id, over, now, entry.origin)
                    await refused.write(conn)
                    moved += len(dropped)
                elif one.status == JourneyStatus.ACTIVE.value:
                    room = self._page - await held_entries.undecided(conn, now, self._page)
                    if room > 0 and not await outbox.is_backlog(conn, "start", UNTOLD):
                        moved += await held_entries.release(conn, one.project_no, one.journey_id, room, now)
        return moved > 0


def _over(one: HoldingJourney, now: datetime) -> EntryRefusal | None:
    """Why nobody comes into this journey any more. An end once reached is as good as any reached since."""
    if one.status is None or one.status == JourneyStatus.ARCHIVED.value:
        return EntryRefusal.JOURNEY_ARCHIVED
    ends_at = parse_instant(one.ends_at) if one.ends_at is not None else None
    return EntryRefusal.ENDED if ends_at is not None and ends_at <= now else None
