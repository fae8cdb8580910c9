"""What is held of some subjects, through one transaction that decides about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import held_entries
from orchestrator.storage.held_entries import HeldEntry

#: Entries held of one subject for one journey. All of them are looked at whenever something happens to the subject.
AT_MOST = 100


class Holding:
    """Knows at any moment which entries wait; what has changed is written at the end. The caller holds the subjects."""

    def __init__(self, held: Iterable[HeldEntry]) -> None:
        self._waiting: defaultdict[tuple[SubjectKey, str], dict[str, HeldEntry]] = defaultdict(dict)
        for entry in held:
            self._waiting[entry.key, entry.journey_id][entry.entry_key] = entry
        self._new: dict[tuple[SubjectKey, str, str], HeldEntry] = {}
        self._moved: list[HeldEntry] = []
        self._dropped: list[HeldEntry] = []

    def has(self, key: SubjectKey, journey_id: str, entry_key: str) -> bool:
        """Whether an entry of this key waits."""
        return entry_key in self._waiting[key, journey_id]

    def has_room(self, key: SubjectKey, journey_id: str) -> bool:
        """Whether one more may wait."""
        return len(self._waiting[key, journey_id]) < AT_MOST

    def keep(self, entry: HeldEntry, *, since: HeldEntry | None) -> None:
        """Have it wait, or wait on, if it was held `since` before."""
        self._waiting[entry.key, entry.journey_id][entry.entry_key] = entry
        if since is None:
            self._new[entry.key, entry.journey_id, entry.entry_key] = entry
        elif entry.look_at != since.look_at:
            self._moved.append(entry)

    def drop(self, entry: HeldEntry) -> None:
        """It has been decided; it was held before this transaction."""
        del self._waiting[entry.key, entry.journey_id][entry.entry_key]
        self._dropped.append(entry)

    async def write(self, conn: Connection[Record]) -> None:
        # Another entry of a key that is dropped here may be among the new ones.
        await held_entries.drop(conn, self._dropped)
        await held_entries.look(conn, self._moved)
        await held_entries.insert(conn, list(self._new.values()))
