"""Counting the past of kinds of events: what had been taken in before somebody asked about the kind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application.transactions import Transactions
from orchestrator.domain.derived_event import matches
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import clock, derived_events, inbox_entries, ingest, segment_runs, subjects
from orchestrator.storage.derived_events import Building
from orchestrator.storage.ingest import Taken

#: Subjects held in one transaction, and about how many events of theirs are looked at.
SUBJECTS = 100
EVENTS = 5000

#: A kind is left to other processes this long after the one that was at it was last heard of.
LEASE = timedelta(seconds=30)

#: Questions put to events in one go, between which others have their turn.
_QUESTIONS = 200

_BUCKETS = 256


class Backfill:
    """One per process. Killed anywhere, another goes on where it was, and counts nothing twice."""

    def __init__(
        self,
        transactions: Transactions,
        *,
        subjects_at_once: int = SUBJECTS,
        events_at_once: int = EVENTS,
        lease: timedelta = LEASE,
    ) -> None:
        self._transactions = transactions
        self._subjects_at_once = subjects_at_once
        self._events_at_once = events_at_once
        self._lease = lease
        # Project and number of the kind this process is at.
        self._mine = (-1, -1)

    async def run(self) -> int:
        """Do all there is to do; returns how many kinds have been finished."""
        finished = 0
        while (done := await self.step()) is not None:
            finished += done
        return finished

    async def step(self) -> bool | None:
        """Count some subjects, in one transaction: whether a kind has been finished by it; None: nothing is to do."""
        async with self._transactions.write(None) as conn:
            kind = await derived_events.take(conn, await clock.now(conn), self._lease, self._mine)
            if kind is None:
                return None
            self._mine = kind.project_no, kind.name_no
            return await self._count_some(conn, kind)

    async def _count_some(self, conn: Connection[Record], kind: Building) -> bool:
        """Go on behind where the kind stands; True: it is finished."""
        wanted, is_last = await self._next_subjects(conn, kind)
        keys = await subjects.lock(conn, wanted)
        now = await clock.now(conn)
        changed = await count_missing(conn, kind, keys, events_at_once=self._events_at_once)
        await inbox_entries.add(conn, changed, "backfill", now)
        if is_last:
            await derived_events.finish(conn, kind, now)
            # Segments that ask about the kind can be built now. Runs that were asked for with them may be over.
            await segment_runs.request(conn, kind.project_no, "build", None, now)
        else:
            await derived_events.advance(conn, kind, wanted[-1].bucket, wanted[-1].subject_no)
        return is_last

    async def _next_subjects(self, conn: Connection[Record], kind: Building) -> tuple[list[SubjectKey], bool]:
        """Who comes next, of those with events of the name, and whether nobody comes behind them."""
        found: list[SubjectKey] = []
        events = 0
        behind = kind.subject_no
        most = self._subjects_at_once
        for bucket in range(kind.bucket, _BUCKETS):
            for subject_no, total in await derived_events.subjects_behind(conn, kind, bucket, behind, most + 1):
                if found and (len(found) == most or events + total > self._events_at_once):
                    return found, False
                found.append(SubjectKey(project_no=kind.project_no, bucket=bucket, subject_no=subject_no))
                events += total
            behind = 0
        return found, True


async def count_missing(
    conn: Connection[Record], kind: Building, keys: Sequence[SubjectKey], *, events_at_once: int = EVENTS
) -> list[SubjectKey]:
    """Count as of this kind what has not been, of subjects the caller holds; those whose counts changed.

    Also for whoever gives a subject the events of another: the backfill may have passed the one and never meets the
    other again. Such a one takes `subjects.hold_off_deletion` behind the rows, then asks for `derived_events.building`.
    """
    changed: set[SubjectKey] = set()
    # Only a subject that comes alone may have very many.
    limit = events_at_once if len(keys) == 1 else None
    after: Taken | None = None
    while keys:
        events = await derived_events.events_of(conn, kind, keys, after=after, limit=limit)
        found = await _matching(kind.where, events)
        counted = await derived_events.counted_already(conn, kind, keys, found) if found else set()
        if missing := [event for event in found if event.event_no not in counted]:
            await ingest.copy(conn, kind.project_no, kind.name_no, missing)
            changed |= {event.key(kind.project_no) for event in missing}
        if limit is None or len(events) < limit:
            break
        after = events[-1][0]
    return sorted(changed)


async def _matching(where: Predicate, events: Sequence[tuple[Taken, Mapping[str, Any]]]) -> list[Taken]:
    """Those that the predicate holds for. Lets others have their turn."""
    found = []
    for number, (event, properties) in enumerate(events, start=1):
        if matches(where, properties):
            found.append(event)
        if number % _QUESTIONS == 0:
            await asyncio.sleep(0)
    return found
