"""What starts executions: events and transitions of which the inbox tells, and entries that were held since earlier.

The caller holds the subjects' rows, and has told nobody yet of what it finds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

from asyncpg import Connection, Record

from orchestrator.application.holding import Holding
from orchestrator.application.letting_in import Candidate, let_in
from orchestrator.application.listeners import Catalog, Listener, deaf_listener
from orchestrator.application.refused_entries import RefusedEntries
from orchestrator.application.versions import Versions
from orchestrator.domain.entry import (
    EntryRefusal,
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    refuse_date,
    refuse_loop,
    refuse_trigger,
    transition_key,
)
from orchestrator.domain.journey import JourneyStatus, WhilePaused
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import catalog, inbox, journeys, memberships
from orchestrator.storage.held_entries import HeldEntry
from orchestrator.storage.inbox import Arrival
from orchestrator.storage.memberships import Cause, Recorded
from orchestrator.storage.origins import Event, Moved, Origin
from orchestrator.storage.outbox import Notice


class Look:
    """One look of one transaction at some subjects of a project, of whom `held` entries wait. `refused` is told whom it
    refuses.
    """

    def __init__(
        self,
        conn: Connection[Record],
        versions: Versions,
        project: catalog.Current,
        known: Catalog,
        held: Sequence[HeldEntry],
        refused: RefusedEntries,
    ) -> None:
        self._conn = conn
        self._versions = versions
        self._project = project
        self._known = known
        self._held = held
        self._holding = Holding(held)
        self._refused = refused
        # the instant of every decision, read after the locks
        self._now = project.now

    async def start(self, entries: Sequence[inbox.Entry], moved: Sequence[Recorded]) -> list[Notice]:
        """Decide about those who were held, in the order of their triggers, and start what these entries start, and
        then what those start who have `moved` since.
        """
        candidates = [*await self._resumed(), *await self._heard(entries), *await self._moved(entries, moved)]
        named = {c.journey_id for c in candidates}
        statuses = await journeys.keep_open(self._conn, self._project.project_no, named) if named else {}
        live = [c for c in candidates if self._is_live(c, statuses.get(c.journey_id))]
        told = await let_in(self._conn, self._versions, self._project, live, self._holding, self._refuse)
        await self._holding.write(self._conn)
        return told

    def _refuse(self, c: Candidate, reason: EntryRefusal) -> None:
        assert c.origin is not None, "it was heard"
        self._refused.add(c.key, c.journey_id, reason, self._now, c.origin)
        if c.held is not None:
            self._holding.drop(c.held)

    def _is_live(self, c: Candidate, status: JourneyStatus | None) -> bool:
        """Whether the gates are to be asked. Of a journey that was paused, or is over, since the catalog was read too,
        this is the last word.
        """
        match status:
            case JourneyStatus.ACTIVE:
                return True
            case JourneyStatus.PAUSED:
                self._meet_pause(c)
            case _ if c.held is not None:
                self._refuse(c, EntryRefusal.JOURNEY_ARCHIVED)
            case _:
                pass  # nobody listens
        return False

    def _meet_pause(self, c: Candidate) -> None:
        if c.held is not None and c.held.look_at is None:
            return  # it waits on, whatever a newer version says of those who come now
        if c.is_twice(self._holding):
            self._refuse(c, EntryRefusal.REENTRY)
            return
        version = c.listener.version
        reason = refuse_loop(c.trigger) or refuse_date(version, self._now)
        holds = version.definition.while_paused is WhilePaused.HOLD
        if reason is None and holds and (c.held is not None or self._holding.has_room(c.key, c.journey_id)):
            self._holding.keep(c.waiting(self._now, None), since=c.held)
        else:
            self._refuse(c, reason or EntryRefusal.JOURNEY_PAUSED)

    async def _resumed(self) -> list[Candidate]:
        """Those that were held before, under the newest version of their journey."""
        listeners: dict[str, Listener | None] = {}
        for journey_id in {entry.journey_id for entry in self._held}:
            listeners[journey_id] = self._known.of_journeys.get(journey_id) or await deaf_listener(
                self._conn, self._versions, self._project.project_no, journey_id
            )
        candidates: list[Candidate] = []
        for entry in self._held:
            listener = listeners[entry.journey_id]
            if listener is None:  # deleted
                self._refused.add(entry.key, entry.journey_id, EntryRefusal.JOURNEY_ARCHIVED, self._now, entry.origin)
                self._holding.drop(entry)
                continue
            trigger = Trigger(at=entry.triggered_at, event_id=entry.event_id, properties=entry.entry, hops=entry.hops)
            candidates.append(
                Candidate(
                    key=entry.key,
                    listener=listener,
                    kind=entry.entry_kind,
                    trigger=trigger,
                    entry_key=entry.entry_key,
                    origin=entry.origin,
                    held=entry,
                )
            )
        return candidates

    async def _heard(self, entries: Sequence[inbox.Entry]) -> list[Candidate]:
        """Who listens to which of these events, in the order of their arrival, and whose contract takes it."""
        project_no, known = self._project.project_no, self._known
        arrivals = [
            Arrival(key=entry.key, name_no=name_no, event_no=event_no, occurred_at=occurred_at)
            for entry in entries
            for name_no, event_no, occurred_at in zip(entry.name_nos, entry.event_nos, entry.occurred_ats, strict=True)
            if name_no in known.of_events
        ]
        events = await inbox.events(self._conn, project_no, arrivals) if arrivals else {}
        hops = {event_no: entry.hops for entry in entries for event_no in entry.event_nos}
        return [
            candidate
            for a in arrivals
            if (event := events.get(a.event_no)) is not None  # else dropped by retention meanwhile
            for listener in known.of_events[a.name_no]
            for candidate in self._taken(
                a,
                listener,
                Trigger(at=a.occurred_at, event_id=event[0], properties=event[1], hops=hops[a.event_no]),
            )
        ]

    def _taken(self, arrival: Arrival, listener: Listener, trigger: Trigger) -> Iterator[Candidate]:
        contract = listener.contract
        if not isinstance(contract, TriggerContract):
            return
        what = Event(event_no=arrival.event_no, name_no=arrival.name_no)
        origin = Origin(at=trigger.at, what=what, hops=trigger.hops)
        reason = refuse_trigger(contract, trigger, self._now)
        entry = entry_key(contract, trigger)
        if reason is not None or entry is None:
            reason = reason or EntryRefusal.ENTRY_KEY_MISSING
            self._refused.add(arrival.key, listener.journey_id, reason, self._now, origin)
        else:
            yield Candidate(
                key=arrival.key, listener=listener, kind="event", trigger=trigger, entry_key=entry, origin=origin
            )

    async def _moved(self, entries: Sequence[inbox.Entry], moved: Sequence[Recorded]) -> list[Candidate]:
        """Who listens to which of these transitions, those that entries tell of and those just made, in their order.

        Which of a subject's entries has moved it nobody can tell: it counts as the one that comes from farthest away.
        """
        of_segments = self._known.of_segments
        if not of_segments:
            return []
        hops: defaultdict[SubjectKey, int] = defaultdict(int)
        for entry in entries:
            hops[entry.key] = max(hops[entry.key], entry.hops)
        earlier = [number for entry in entries for number in entry.transition_nos]
        told = await memberships.recorded(self._conn, self._project.project_no, earlier) if earlier else []
        return [
            Candidate(
                key=one.transition.key,
                listener=listener,
                kind="segment",
                trigger=Trigger(at=one.at, hops=hops[one.transition.key]),
                entry_key=transition_key(listener.contract.segment_id, one.transition_no),
                origin=_origin(one, hops[one.transition.key]),
            )
            for one in chain(told, moved)
            for listener in of_segments.get((one.transition.segment_no, one.transition.entered), ())
            if isinstance(listener.contract, SegmentContract) and _counts(listener.contract, one.transition.cause)
        ]


def _origin(one: Recorded, hops: int) -> Origin:
    moved = one.transition
    what = Moved(transition_no=one.transition_no, segment_no=moved.segment_no, entered=moved.entered)
    return Origin(at=one.at, what=what, hops=hops)


def _counts(contract: SegmentContract, cause: Cause) -> bool:
    """Whether who moved for this reason is let in. The past never starts anything, nor does becoming another."""
    match cause:
        case "data" | "time":
            return True
        case "definition":
            return contract.include_definition_changes
        case "backfill" | "merge":
            return False
