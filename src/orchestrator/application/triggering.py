"""What starts executions: events and transitions of which the inbox tells, and entries that were held since earlier.

The caller holds the subjects' rows, and has told nobody yet of what it finds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.admission import Admissions
from orchestrator.application.earlier_entries import question
from orchestrator.application.holding import Holding
from orchestrator.application.listeners import Catalog, Listener, deaf_listener
from orchestrator.application.refusal_audits import audit_refusal
from orchestrator.application.versions import Versions
from orchestrator.domain.entry import (
    MAY_COME,
    Earlier,
    EntryRefusal,
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    missing_segment,
    reentry_of,
    refuse_date,
    refuse_loop,
    refuse_subject,
    refuse_transition,
    refuse_trigger,
    transition_key,
)
from orchestrator.domain.journey import JourneyStatus, Reentry, WhilePaused
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.facts import Facts, needs
from orchestrator.storage import catalog, enrollments, inbox, journeys, memberships, refusal_counts
from orchestrator.storage.held_entries import EntryKind, HeldEntry
from orchestrator.storage.inbox import Arrival
from orchestrator.storage.memberships import Cause, Recorded
from orchestrator.storage.outbox import Entry as Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that a journey listens to, for a subject; `held` since an earlier look, or new."""

    key: SubjectKey
    listener: Listener
    kind: EntryKind
    trigger: Trigger
    entry_key: str
    held: HeldEntry | None = None

    @property
    def journey_id(self) -> str:
        return self.listener.journey_id

    def grace_until(self, now: datetime) -> datetime | None:
        """Until when what is asked of the subject may come to hold; None: it has to now."""
        if self.held is not None:
            return self.held.grace_until
        grace = self.listener.version.definition.entry_grace
        return now + grace if grace is not None else None

    def waiting(self, now: datetime, look_at: datetime | None) -> HeldEntry:
        """This entry as it is held until then; None: until its journey is resumed."""
        return HeldEntry(
            key=self.key,
            journey_id=self.journey_id,
            entry_key=self.entry_key,
            entry_kind=self.kind,
            event_id=self.trigger.event_id,
            triggered_at=self.trigger.at,
            held_at=self.held.held_at if self.held is not None else now,
            grace_until=self.grace_until(now),
            look_at=look_at,
            hops=self.trigger.hops,
            entry=dict(self.trigger.properties),
        )


class Look:
    """One look of one transaction at some subjects of a project, of whom `held` entries wait. `refused` counts whom it
    refuses.
    """

    def __init__(
        self,
        conn: Connection[Record],
        versions: Versions,
        project: catalog.Current,
        known: Catalog,
        held: Sequence[HeldEntry],
        refused: Counter[refusal_counts.Slot],
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

    async def start(self, entries: Sequence[inbox.Entry], moved: Sequence[Recorded]) -> list[Told]:
        """Decide about those who were held, in the order of their triggers, and start what these entries start, and
        then what those start who have `moved` since.
        """
        candidates = [*await self._resumed(), *await self._heard(entries), *await self._moved(entries, moved)]
        named = {c.journey_id for c in candidates}
        statuses = await journeys.keep_open(self._conn, self._project.project_no, named) if named else {}
        live = [c for c in candidates if self._is_live(c, statuses.get(c.journey_id))]
        told = await self._decide(live)
        await self._holding.write(self._conn)
        return told

    def _refuse(self, c: Candidate, reason: EntryRefusal) -> None:
        self._count(c.journey_id, c.key, reason)
        if c.held is not None:
            self._holding.drop(c.held)

    def _count(self, journey_id: str, key: SubjectKey, reason: EntryRefusal) -> None:
        at = refusal_counts.slot(key.project_no, journey_id, reason.value, self._now, key.bucket)
        self._refused[at] += 1

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

    def _is_twice(self, c: Candidate) -> bool:
        """One entry never enters twice: whether another one of its key waits, and this one is refused."""
        if c.held is not None or not self._holding.has(c.key, c.journey_id, c.entry_key):
            return False
        self._refuse(c, EntryRefusal.REENTRY)
        return True

    def _meet_pause(self, c: Candidate) -> None:
        if self._is_twice(c):
            return
        version = c.listener.version
        reason = refuse_loop(c.trigger) or refuse_date(version, self._now)
        holds = version.definition.while_paused is WhilePaused.HOLD
        if reason is None and holds and (c.held is not None or self._holding.has_room(c.key, c.journey_id)):
            self._holding.keep(c.waiting(self._now, None), since=c.held)
        else:
            self._refuse(c, reason or EntryRefusal.JOURNEY_PAUSED)

    async def _decide(self, live: Sequence[Candidate]) -> list[Told]:
        if not live:
            return []
        project, now = self._project, self._now
        listeners = {id(c.listener): c.listener for c in live}.values()
        subjects = await subject_facts.load(
            self._conn,
            self._versions.rule_book,
            project.project_no,
            sorted({c.key for c in live}),
            needs([asked for listener in listeners for asked in listener.asked]),
            now,
        )
        earlier = await _earlier(self._conn, project.project_no, live)
        admissions = Admissions(
            self._versions,
            project_no=project.project_no,
            project_id=project.project_id,
            settings=project.settings,
            sends_paused=project.sends_paused,
            now=now,
        )
        met: dict[tuple[str, EntryRefusal], tuple[Listener, Facts]] = {}
        for c in live:
            if self._is_twice(c):
                continue
            before = earlier[c.key, c.journey_id]
            found = subjects[c.key]
            reason = refuse_loop(c.trigger)
            if c.kind == "segment" and isinstance(c.listener.contract, SegmentContract):
                reason = reason or refuse_transition(c.listener.contract, found.facts, now)
            reason = reason or refuse_subject(
                c.listener.version, c.listener.audience, c.trigger, c.entry_key, found.facts, found.consent, before, now
            )
            if reason is None:
                before.add(c.entry_key, c.trigger.at)
                if c.held is not None:
                    self._holding.drop(c.held)
                admissions.admit(
                    key=c.key,
                    prepared=c.listener.prepared,
                    goal_revision=c.listener.goal_revision,
                    entry_kind=c.kind,
                    entry_key=c.entry_key,
                    trigger=c.trigger,
                    known=found,
                )
            elif not self._waits(c, reason):
                self._refuse(c, reason)
                met[c.journey_id, reason] = c.listener, found.facts
        for (_, reason), (listener, facts) in met.items():
            await audit_refusal(
                self._conn,
                project.project_no,
                listener.version,
                reason,
                now,
                audience_id=listener.audience_id,
                segment_id=missing_segment([listener.asked_by_contract, listener.audience], facts, now),
            )
        return await admissions.write(self._conn)

    def _waits(self, c: Candidate, reason: EntryRefusal) -> bool:
        """Whether what stands against it may still pass; then it is held until the end of its grace."""
        until = c.grace_until(self._now)
        if reason not in MAY_COME or until is None or until <= self._now:
            return False
        if c.held is None and not self._holding.has_room(c.key, c.journey_id):
            return False
        self._holding.keep(c.waiting(self._now, until), since=c.held)
        return True

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
                self._count(entry.journey_id, entry.key, EntryRefusal.JOURNEY_ARCHIVED)
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
                a.key,
                listener,
                Trigger(at=a.occurred_at, event_id=event[0], properties=event[1], hops=hops[a.event_no]),
            )
        ]

    def _taken(self, key: SubjectKey, listener: Listener, trigger: Trigger) -> Iterator[Candidate]:
        contract = listener.contract
        if not isinstance(contract, TriggerContract):
            return
        reason = refuse_trigger(contract, trigger, self._now)
        entry = entry_key(contract, trigger)
        if reason is not None or entry is None:
            self._count(listener.journey_id, key, reason or EntryRefusal.ENTRY_KEY_MISSING)
        else:
            yield Candidate(key=key, listener=listener, kind="event", trigger=trigger, entry_key=entry)

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
            )
            for one in chain(told, moved)
            for listener in of_segments.get((one.transition.segment_no, one.transition.entered), ())
            if isinstance(listener.contract, SegmentContract) and _counts(listener.contract, one.transition.cause)
        ]


def _counts(contract: SegmentContract, cause: Cause) -> bool:
    """Whether who moved for this reason is let in. The past never starts anything, nor does becoming another."""
    match cause:
        case "data" | "time":
            return True
        case "definition":
            return contract.include_definition_changes
        case "backfill" | "merge":
            return False


async def _earlier(
    conn: Connection[Record], project_no: int, candidates: Sequence[Candidate]
) -> dict[tuple[SubjectKey, str], Earlier]:
    # Who came by an event and who came by a segment may be asked by different policies.
    groups: defaultdict[tuple[SubjectKey, str, Reentry], list[Candidate]] = defaultdict(list)
    for c in candidates:
        groups[c.key, c.journey_id, reentry_of(c.listener.version, c.trigger)].append(c)
    questions = [
        question(key, journey_id, policy, (c.entry_key for c in group), [c.trigger.at for c in group])
        for (key, journey_id, policy), group in groups.items()
    ]
    found = await enrollments.earlier(conn, project_no, questions)
    entered: defaultdict[tuple[SubjectKey, str], list[tuple[str, datetime]]] = defaultdict(list)
    for (key, journey_id, _), entries in zip(groups, found, strict=True):
        entered[key, journey_id] += entries
    return {at: Earlier.of(entries) for at, entries in entered.items()}
