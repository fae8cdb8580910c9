"""Taking events in: each once, counted, and told to the inbox, in one transaction for the whole batch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from hashlib import sha256

from asyncpg import CheckViolationError, Connection, DeadlockDetectedError, Record, SerializationError

from orchestrator.application.forgetting import count_refused
from orchestrator.application.transactions import Transactions
from orchestrator.domain.derived_event import DerivedEvents
from orchestrator.domain.event import Event, Outcome
from orchestrator.domain.refusals import SubjectForgotten, Unavailable
from orchestrator.domain.subject import bucket_of
from orchestrator.storage import derived_events, event_names, events, ingest, subjects
from orchestrator.storage.ingest import Begun, Columns

logger = logging.getLogger(__name__)

#: Questions put to events in one go, between which others have their turn.
QUESTIONS = 200

#: Before each further try of a batch that another transaction was in the way of. Seconds.
PAUSES = (0.02, 0.1, 0.5)


class Ingest:
    """One per process: it remembers the numbers of names, the kinds of events, and which months have a partition."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        # Names only ever get more.
        self._name_nos: dict[int, dict[str, int]] = {}
        # With that by which they differ from what was there before.
        self._kinds: dict[int, tuple[tuple[int, int], DerivedEvents]] = {}
        # Those that hold nothing are dropped now and then; who meets that begins again.
        self._months: set[tuple[int, int]] = set()

    async def take(
        self,
        project_no: int,
        batch: Sequence[Event],
        *,
        backfill: bool,
        hops: int | None = None,
        committed: Callable[[], None] | None = None,
    ) -> list[Outcome]:
        """What became of each event, in the same order. Safe to repeat after an unknown outcome.

        Of events with one id the first counts. What occurred in the future occurred on arrival. `backfill` tells the
        past: it counts, and starts or wakes nothing. `hops`: domain/entry.py, Trigger; None: no execution has told
        them. `committed` is called when something new has been stored, also if the caller is cancelled meanwhile.
        """
        outcomes = [Outcome.DUPLICATE] * len(batch)
        first: dict[str, int] = {}
        for place, event in enumerate(batch):
            first.setdefault(event.event_id, place)
        places = list(first.values())
        if not places:
            return outcomes
        await self._learn_names(project_no, {batch[place].name for place in places})
        while True:
            fresh = [batch[place] for place in places]
            try:
                new = await self._store_patiently(project_no, fresh, backfill=backfill, hops=hops, committed=committed)
            except SubjectForgotten as forgotten:
                # The others do not hang on these, of which nothing was stored, their ids included.
                gone = dict.fromkeys(forgotten.subject_ids, 0)
                for place in places:
                    if (subject_id := batch[place].subject_id) in gone:
                        outcomes[place] = Outcome.FORGOTTEN
                        gone[subject_id] += 1
                await count_refused(self._transactions, project_no, gone)
                places = [place for place in places if batch[place].subject_id not in gone]
                if not places:
                    return outcomes
            else:
                for index in new:
                    outcomes[places[index]] = Outcome.ACCEPTED
                return outcomes

    async def make_room(self, project_no: int, name: str, near: datetime) -> None:
        """Before the transaction of `tell`: what an event of this name needs, that happens around `near`."""
        await self._learn_names(project_no, {name})
        around = (near - timedelta(hours=1), near + timedelta(hours=1))
        await self._prepare({(at.year, at.month) for at in around} - self._months)

    async def tell(self, conn: Connection[Record], project_no: int, event: Event, *, hops: int) -> datetime:
        """Let an event happen now, of a subject whose row the caller holds, in the caller's transaction; returns when.

        An id that has come before is the same event again. `hops`: domain/entry.py, Trigger. The inbox is to be rung.
        """
        await subjects.hold_off_deletion(conn, project_no)
        begun = await ingest.begin(conn, project_no)
        try:
            await self._store_at(conn, project_no, [event], [begun.now], begun, backfill=False, hops=hops)
        except CheckViolationError:
            # A month was dropped that this process remembers. Whoever tries again makes room for it.
            self._months.clear()
            raise
        return begun.now

    async def _store_patiently(
        self,
        project_no: int,
        batch: list[Event],
        *,
        backfill: bool,
        hops: int | None,
        committed: Callable[[], None] | None,
    ) -> list[int]:
        """`_store`, again where another transaction was in the way: no two batches can wait for each other."""
        for pause in PAUSES:
            try:
                return await self._store(project_no, batch, backfill=backfill, hops=hops, committed=committed)
            except (DeadlockDetectedError, SerializationError) as error:
                logger.warning("ingest is tried again", extra={"error": type(error).__name__})
                # Who has waited for what we gave back takes it first.
                await asyncio.sleep(random.uniform(pause / 2, pause))
            except CheckViolationError:
                # A month was dropped that this process remembers.
                self._months.clear()
        return await self._store(project_no, batch, backfill=backfill, hops=hops, committed=committed)

    async def _store(
        self,
        project_no: int,
        batch: list[Event],
        *,
        backfill: bool,
        hops: int | None,
        committed: Callable[[], None] | None,
    ) -> list[int]:
        """The indexes of the events that were new. No two of the batch have the same id."""
        new: list[int] = []

        def tell() -> None:
            if new and committed is not None:
                committed()

        while True:
            async with self._transactions.write(project_no, committed=tell) as conn:
                await subjects.hold_off_deletion(conn, project_no)
                begun = await ingest.begin(conn, project_no)
                now = begun.now
                times = [now if event.occurred_at is None else min(event.occurred_at, now) for event in batch]
                unprepared = {(at.year, at.month) for at in times} - self._months
                if not unprepared:
                    new += await self._store_at(conn, project_no, batch, times, begun, backfill=backfill, hops=hops)
                    return new
            await self._prepare(unprepared)

    async def _store_at(
        self,
        conn: Connection[Record],
        project_no: int,
        batch: list[Event],
        times: list[datetime],
        begun: Begun,
        *,
        backfill: bool,
        hops: int | None,
    ) -> list[int]:
        buckets = [bucket_of(event.subject_id) for event in batch]
        claimed = await ingest.claim(
            conn,
            project_no,
            event_hashes=[_hash_of(event.event_id) for event in batch],
            buckets=buckets,
            subject_ids=[event.subject_id for event in batch],
            now=begun.now,
        )
        if not claimed:
            return []
        strangers = {batch[index].subject_id for index, subject_no in claimed if subject_no is None}
        stubs = await subjects.ensure(conn, project_no, strangers, begun.now)
        known = self._name_nos[project_no]
        new = [index for index, _ in claimed]
        name_nos = [known[batch[index].name] for index in new]
        properties = [batch[index].properties for index in new]
        kinds = await self._known_kinds(conn, project_no, begun)
        if kinds is not None and (unread := kinds.unreadable.keys() & set(name_nos)):
            raise _uncountable(min(unread), kinds.unreadable, known)
        await ingest.store(
            conn,
            project_no,
            Columns(
                occurred_ats=[times[index] for index in new],
                name_nos=name_nos,
                subject_nos=[
                    stubs[batch[index].subject_id].subject_no if subject_no is None else subject_no
                    for index, subject_no in claimed
                ],
                # An id that was merged into another subject is a stranger, too, and may lead to another bucket.
                buckets=[
                    stubs[batch[index].subject_id].bucket if subject_no is None else buckets[index]
                    for index, subject_no in claimed
                ],
                event_ids=[batch[index].event_id for index in new],
                properties=properties,
                kinds=await _kinds_of(kinds, name_nos, properties) if kinds is not None else (),
            ),
            backfill=backfill,
            now=begun.now,
            hops=hops,
        )
        return new

    async def _known_kinds(self, conn: Connection[Record], project_no: int, begun: Begun) -> DerivedEvents | None:
        """The kinds of events as of `begun`; None: there are none."""
        if begun.kinds is None:
            return None
        kept = self._kinds.get(project_no)
        if kept is None or kept[0] != begun.kinds:
            kept = begun.kinds, await derived_events.of_project(conn, project_no)
            if not kept[1].unreadable:  # that may be mended without another number
                self._kinds[project_no] = kept
        return kept[1]

    async def _learn_names(self, project_no: int, names: set[str]) -> None:
        known = self._name_nos.setdefault(project_no, {})
        if unknown := names - known.keys():
            # In a transaction of its own: others wait for a new name only as long as it takes to write it down.
            async with self._transactions.write(project_no) as conn:
                numbers = await event_names.ensure(conn, project_no, unknown)
            # After the commit: a number that was rolled back stands for nothing.
            known |= numbers

    async def _prepare(self, months: set[tuple[int, int]]) -> None:
        """Make room for the events of these (year, month)."""
        for year, month in sorted(months):
            async with self._transactions.write(None) as conn:
                await events.ensure_month(conn, date(year, month, 1))
        self._months |= months


def _uncountable(base_no: int, unreadable: Mapping[int, int], known: Mapping[str, int]) -> Unavailable:
    """A count with a hole would be wrong for ever, and nobody would see it."""
    name = next(name for name, number in known.items() if number == base_no)
    return Unavailable(
        "EVENT_KIND_UNREADABLE",
        f"a kind of events {name} was saved and does not read: until that is mended, none of them can be taken in",
        eventName=name,
        kind=str(unreadable[base_no]),
    )


async def _kinds_of(
    kinds: DerivedEvents, name_nos: Sequence[int], properties: Sequence[bytes]
) -> list[tuple[int, int]]:
    """(place, number of a kind) for each kind that each of these events is of. Lets others have their turn."""
    found = []
    asked = 0
    for place, (base_no, text) in enumerate(zip(name_nos, properties, strict=True)):
        found += [(place, name_no) for name_no in kinds.of(base_no, text)]
        asked += kinds.count(base_no)
        if asked >= QUESTIONS:
            await asyncio.sleep(0)
            asked = 0
    return found


def _hash_of(event_id: str) -> str:
    """The first half of its SHA-256, as the text of a uuid."""
    return sha256(event_id.encode()).hexdigest()[:32]
