"""Entries that a transaction refuses: counted in the ledger, and kept where they may be decided on again."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import refusal_counts, refused_entries
from orchestrator.storage.origins import Origin
from orchestrator.storage.refusal_counts import Slot
from orchestrator.storage.refused_entries import Row

#: What stays so: an event was not meant, of which there is no end; executions start one another; the journey is over.
_FOR_GOOD = frozenset(
    {
        EntryRefusal.TRIGGER_PREDICATE,
        EntryRefusal.ENTRY_KEY_MISSING,
        EntryRefusal.LOOP,
        EntryRefusal.JOURNEY_ARCHIVED,
    }
)


class RefusedEntries:
    """Those of one transaction."""

    def __init__(self) -> None:
        self._counts: Counter[Slot] = Counter()
        self._entries: defaultdict[Slot, list[Row]] = defaultdict(list)

    def add(self, key: SubjectKey, journey_id: str, reason: EntryRefusal, now: datetime, origin: Origin) -> None:
        slot = refusal_counts.slot(key.project_no, journey_id, reason.value, now, key.bucket)
        self._counts[slot] += 1
        if reason not in _FOR_GOOD:
            self._entries[slot].append((journey_id, reason.value, now, key, origin))

    async def write(self, conn: Connection[Record]) -> None:
        """As late as the transaction allows: the counts stay locked until it ends."""
        totals = await refusal_counts.add(conn, self._counts)
        kept: list[Row] = []
        for slot, rows in self._entries.items():
            before = totals[slot] - self._counts[slot]
            kept += rows[: max(0, refused_entries.KEPT - before)]
        await refused_entries.add(conn, kept)
