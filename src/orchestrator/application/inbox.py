"""Working through the inbox: one transaction takes some subjects, all their entries in order, and acts on them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, zip_longest

from asyncpg import Connection, Record

from orchestrator import traces
from orchestrator.application.crediting import credit
from orchestrator.application.listeners import Catalog, read_catalog
from orchestrator.application.memberships import refresh
from orchestrator.application.refused_entries import RefusedEntries
from orchestrator.application.segment_rules import SegmentRules
from orchestrator.application.transactions import Transactions
from orchestrator.application.triggering import Look
from orchestrator.application.versions import Versions
from orchestrator.application.waking import Waking
from orchestrator.domain.conditions import segment_topic
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import awaiting as awaits
from orchestrator.storage import catalog, clock, held_entries, inbox, memberships
from orchestrator.storage.awaiting import Awaiting
from orchestrator.storage.memberships import Cause
from orchestrator.storage.outages import took_too_long
from orchestrator.storage.outbox import Notice

#: Subjects worked on in one transaction. Few, so that nobody waits long for a subject's lock.
SUBJECTS = 64

#: The same where more wait than that: each costs less then. As many as are done within LONGEST, in seconds.
MANY = 4000
LONGEST, SHORTEST = 1.0, 0.4

#: So many times as many entries are looked at to find them: enough for two consumers. Of more subjects than FEWEST one
#: leaves the other its share, so that neither waits while the other works through all that is left.
LOOK = 2
FEWEST = 500

#: While both wait, one subject in so many is looked at because of the time.
DUE_SHARE = 4

#: Membership that could not be worked out, and what is held, are left for so long, unless something happens to the
#: subject.
AFTER_FAILURE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What came of a look into the inbox: how many subjects were looked after, how many of them had entries or some
    that were held, how many entries were acted on, and what Temporal is to be told.

    No subjects: there was nothing, or somebody else was at it.
    """

    subjects: int
    concerned: int
    entries: int
    told: list[Notice]


class Inbox:
    """The consumer's side of the inbox, for one process."""

    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions
        self._catalogs: dict[int, Catalog] = {}
        self._many = MANY // 4
        self._waking = Waking()

    async def waiting(self) -> list[SubjectKey]:
        """Subjects with entries that nobody has tried yet, and those whose membership time may have changed or for whom
        an entry was held until now, all with those who have waited longest first, and mixed, so that none of them waits
        for all of the others.
        """
        # Some of the first may be held, by a pass or by a consumer that takes twice as many: there have to be others
        # behind them.
        look = LOOK * min(MANY, 2 * max(self._many, MANY // 4))
        async with self._transactions.read(None) as conn:
            told = await inbox.waiting(conn, look)
            now = await clock.now(conn)
            due = await memberships.due(conn, now, look)
            held = await held_entries.due(conn, now, look)
        timed = [key for pair in zip_longest(held, due) for key in pair if key is not None]
        return list(dict.fromkeys(_mixed(told, timed)))

    async def pending(
        self, project_no: int, after: SubjectKey | None, *, of: Sequence[SubjectKey] | None = None, at_most: int
    ) -> list[SubjectKey]:
        """The first subjects of a project, in lock order and behind `after`, with entries that nobody has tried yet, or
        for whom an entry was held until now; of these subjects, or of all.
        """
        async with self._transactions.read(None) as conn:
            now = await clock.now(conn)
            return await inbox.pending(conn, project_no, after, of=of, now=now, limit=at_most)

    async def failing(self) -> list[SubjectKey]:
        """Subjects with entries that failed before, those who have waited longest first."""
        async with self._transactions.read(None) as conn:
            return await inbox.failing(conn, LOOK * MANY)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Whether it is this process's turn to try failed entries again; it is nobody else's as long as the block
        lasts.
        """
        async with self._transactions.write(None) as conn:
            yield await inbox.take_turn(conn)

    async def work(self, keys: Sequence[SubjectKey]) -> Worked:
        """Act on all entries of some of these subjects: the first of those that nobody else is working on."""
        if len(keys) <= SUBJECTS:
            return await self._work(keys, SUBJECTS)
        began = time.monotonic()
        try:
            worked = await self._work(keys, min(self._many, max(FEWEST, -(-len(keys) // LOOK))))
        except Exception as error:
            if took_too_long(error):
                self._many = max(SUBJECTS, self._many // 2)
            raise
        took = time.monotonic() - began
        if took > LONGEST:
            self._many = max(SUBJECTS, self._many // 2)
        elif took < SHORTEST and worked.subjects == self._many:
            self._many = min(MANY, 2 * self._many)
        return worked

    async def _work(self, keys: Sequence[SubjectKey], limit: int) -> Worked:
        with traces.Shared("inbox") as shared:
            return await self._work_in(shared, keys, limit)

    async def _work_in(self, shared: traces.Shared, keys: Sequence[SubjectKey], limit: int) -> Worked:
        async with self._transactions.write(None) as conn:
            keys = await memberships.share_buckets(conn, keys)
            claimed = await inbox.claim(conn, keys, limit)
            if not claimed:
                await inbox.drop_orphans(conn, keys)
                return Worked(subjects=0, concerned=0, entries=0, told=[])
            entries = await inbox.take(conn, claimed)
            shared.join([(entry.key, entry.trace) for entry in entries])
            held = await held_entries.hold(conn, claimed)
            # Whoever is let in below has looked back, and is not among them.
            awaiting = await awaits.of_subjects(conn, claimed)
            # Definitions and clock are read under the locks: whoever has them next knows no less.
            current = await catalog.current(conn, sorted({key.project_no for key in claimed}))
            told: list[Notice] = []
            refused = RefusedEntries()
            catalogs: dict[int, Catalog] = {}
            for project_no, project in current.items():
                known = catalogs[project_no] = await self._catalog(conn, project)
                mine = [entry for entry in entries if entry.key.project_no == project_no]
                rules = await self._versions.rule_book.of(conn, project)
                causes = _causes(mine)
                # Who was told of nothing that rules ask about stays as he is.
                unmoved = {entry.key for entry in mine} - causes.keys()
                awaiting_here = [one for one in awaiting if one.key.project_no == project_no]
                moved = await refresh(
                    conn,
                    project_no,
                    rules,
                    [key for key in claimed if key.project_no == project_no and key not in unmoved],
                    causes,
                    _heard(known, rules, awaiting_here),
                    project.now,
                )
                told += await self._waking.wake(conn, project, rules, awaiting_here, mine, moved)
                held_here = [one for one in held if one.key.project_no == project_no]
                look = Look(conn, self._versions, project, known, held_here, refused)
                told += await look.start(mine, moved)
                # Also to those who have just come in by entries that were told of with these.
                await credit(conn, project_no, known.goals, mine)
            await refused.write(conn)
        # After the commit: making a catalog may give numbers to names, and a number that was rolled back is nobody's.
        self._catalogs |= catalogs
        concerned = {entry.key for entry in entries} | {one.key for one in held}
        return Worked(subjects=len(claimed), concerned=len(concerned), entries=len(entries), told=told)

    async def leave_to_retries(self, keys: Sequence[SubjectKey]) -> None:
        """Put all entries of these subjects to those that failed before, as far as nobody else is at them, and what is
        due of them by time off.
        """
        async with self._transactions.write(None) as conn:
            keys = await inbox.claim(conn, await memberships.share_buckets(conn, keys), len(keys))
            await inbox.leave_to_retries(conn, keys)
            for key in keys:
                await self._postpone(conn, key, await clock.now(conn))

    async def failed(self, key: SubjectKey, error: str) -> int:
        """Count a failure of this subject's entries; returns how many were set aside for good."""
        async with self._transactions.write(None) as conn:
            now = await clock.now(conn)
            await self._postpone(conn, key, now)
            return await inbox.failed(conn, key, error=error, now=now)

    async def _postpone(self, conn: Connection[Record], key: SubjectKey, now: datetime) -> None:
        await memberships.postpone(conn, key, now + AFTER_FAILURE)
        await held_entries.postpone(conn, key, now + AFTER_FAILURE)

    async def _catalog(self, conn: Connection[Record], project: catalog.Current) -> Catalog:
        kept = self._catalogs.get(project.project_no)
        if kept is not None and kept.definitions_version == project.definitions_version:
            return kept
        return await read_catalog(conn, self._versions, project)


def _mixed(told: Sequence[SubjectKey], due: Sequence[SubjectKey]) -> Iterator[SubjectKey]:
    """Both, each in its order; as long as there are of both, `due` has every DUE_SHARE-th place."""
    others = iter(told)
    for key in due:
        yield from islice(others, DUE_SHARE - 1)
        yield key
    yield from others


def _heard(known: Catalog, rules: SegmentRules, awaiting: Iterable[Awaiting]) -> set[int]:
    """The numbers of segments whose comings and goings start or wake anybody."""
    topics = {topic for one in awaiting for topic in one.awaits}
    awaited = {number for number, segment_id in rules.ids.items() if segment_topic(segment_id) in topics}
    return awaited | {number for number, _ in known.of_segments}


def _causes(entries: Iterable[inbox.Entry]) -> dict[SubjectKey, Cause]:
    """Why subjects with these entries may have moved. The past counts where nothing else has happened; of transitions
    that entries tell of, membership knows, and no rules ask about preferences.
    """
    causes: dict[SubjectKey, Cause] = {}
    for entry in entries:
        if entry.kind == "backfill":
            causes.setdefault(entry.key, "backfill")
        elif entry.kind not in ("transitions", "preferences"):
            causes[entry.key] = "data"
    return causes
