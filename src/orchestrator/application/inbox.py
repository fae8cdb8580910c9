"""Working through the inbox: one transaction takes some subjects, all their entries in order, and acts on them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.admission import Admissions
from orchestrator.application.memberships import refresh
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Prepared, Versions
from orchestrator.application.waking import Waking
from orchestrator.domain.audit import ENTRY_REFUSED_AUDIENCE_NOT_FOUND, ENTRY_REFUSED_COHORT_NOT_FOUND, Action
from orchestrator.domain.entry import (
    Earlier,
    EntryRefusal,
    Gone,
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    missing_segment,
    reentry_of,
    refuse_loop,
    refuse_subject,
    refuse_transition,
    refuse_trigger,
    transition_key,
)
from orchestrator.domain.journey import JourneyVersion, Reentry, ReentryKind
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.facts import Facts, needs
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.paths import split_path
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import (
    audit,
    catalog,
    clock,
    enrollments,
    event_names,
    inbox,
    journeys,
    memberships,
    refusal_counts,
)
from orchestrator.storage import (
    awaiting as awaits,
)
from orchestrator.storage.enrollments import Question
from orchestrator.storage.inbox import Arrival
from orchestrator.storage.memberships import Cause, Recorded
from orchestrator.storage.outbox import Entry as Told

#: Subjects worked on in one transaction. Few, so that nobody waits long for a subject's lock.
SUBJECTS = 64

#: The same where more wait than that: each costs less then. As many as are done within LONGEST, in seconds.
MANY = 1000
LONGEST, SHORTEST = 1.0, 0.4

#: Entries looked at to find them: enough for two consumers.
LOOK = 2 * MANY

#: While both wait, one subject in so many is looked at because of the time.
DUE_SHARE = 4

#: Membership that could not be worked out is left for so long, unless something happens to the subject.
AFTER_FAILURE = timedelta(minutes=1)

_AUDITED: Mapping[EntryRefusal, Action] = {
    EntryRefusal.AUDIENCE_NOT_FOUND: ENTRY_REFUSED_AUDIENCE_NOT_FOUND,
    EntryRefusal.COHORT_NOT_FOUND: ENTRY_REFUSED_COHORT_NOT_FOUND,
}


def stored_predicate(document: Any, about: About) -> Predicate:
    """The tree of a predicate that was checked when it was saved."""
    predicate, faults = parse(document, about=about)
    assert predicate is not None, f"a stored predicate no longer reads: {[(f.path, f.reason) for f in faults]}"
    return predicate


def audience_of(audience_id: str | None, document: Any) -> Predicate | Gone | None:
    """The audience a version names, as it stands now."""
    if audience_id is None:
        return None
    return Gone() if document is None else stored_predicate(document, About.SUBJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An active journey and how it listens."""

    prepared: Prepared
    goal_revision: int
    contract: TriggerContract | SegmentContract
    audience_id: str | None
    audience: Predicate | Gone | None

    @property
    def asked(self) -> list[Predicate]:
        """What is asked about a subject that would enter, and then on its first steps."""
        asked = list(self.prepared.asked)
        if self.audience is not None and not isinstance(self.audience, Gone):
            asked.append(self.audience)
        if isinstance(self.contract, SegmentContract) and self.contract.predicate is not None:
            asked.append(self.contract.predicate)
        return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The listeners of a project: by the number of their event's name, or by segment and whether it is entered."""

    definitions_version: int
    of_events: Mapping[int, tuple[Listener, ...]]
    of_segments: Mapping[tuple[int, bool], tuple[Listener, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that a journey listens to, for a subject."""

    key: SubjectKey
    listener: Listener
    trigger: Trigger
    entry_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What came of a look into the inbox: how many subjects were looked after, and what Temporal is to be told.

    No subjects: there was nothing, or somebody else was at it.
    """

    subjects: int
    told: list[Told]


class Inbox:
    """The consumer's side of the inbox, for one process."""

    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions
        self._catalogs: dict[int, Catalog] = {}
        self._many = MANY // 4
        self._waking = Waking()

    async def waiting(self) -> list[SubjectKey]:
        """Subjects with entries that nobody has tried yet, and those whose membership time may have changed, both with
        those who have waited longest first, and mixed, so that neither waits for all of the others.
        """
        async with self._transactions.read(None) as conn:
            told = await inbox.waiting(conn, look=LOOK, attempts=range(1))
            due = await memberships.due(conn, await clock.now(conn), LOOK)
        return list(dict.fromkeys(_mixed(told, due)))

    async def failing(self) -> list[SubjectKey]:
        """Subjects with entries that failed before, those who have waited longest first."""
        async with self._transactions.read(None) as conn:
            return await inbox.waiting(conn, look=LOOK, attempts=range(1, inbox.MAX_ATTEMPTS + 1))

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
        worked = await self._work(keys, self._many)
        took = time.monotonic() - began
        if took > LONGEST:
            self._many = max(SUBJECTS, self._many // 2)
        elif took < SHORTEST and worked.subjects == self._many:
            self._many = min(MANY, 2 * self._many)
        return worked

    async def _work(self, keys: Sequence[SubjectKey], limit: int) -> Worked:
        async with self._transactions.write(None) as conn:
            keys = await memberships.share_buckets(conn, keys)
            claimed = [subject.key for subject in await inbox.claim(conn, keys, limit)]
            if not claimed:
                await inbox.drop_orphans(conn, keys)
                return Worked(subjects=0, told=[])
            entries = await inbox.take(conn, claimed)
            # Whoever is let in below has looked back, and is not among them.
            awaiting = await awaits.of_subjects(conn, claimed)
            # Definitions and clock are read under the locks: whoever has them next knows no less.
            current = await catalog.current(conn, sorted({key.project_no for key in claimed}))
            told: list[Told] = []
            refused: Counter[refusal_counts.Slot] = Counter()
            catalogs: dict[int, Catalog] = {}
            for project_no, project in current.items():
                known = catalogs[project_no] = await self._catalog(conn, project)
                mine = [entry for entry in entries if entry.key.project_no == project_no]
                rules = await self._versions.rule_book.of(conn, project)
                causes = _causes(mine)
                # Who was told of nothing that rules ask about stays as he is.
                unmoved = {entry.key for entry in mine} - causes.keys()
                moved = await refresh(
                    conn,
                    project_no,
                    rules,
                    [key for key in claimed if key.project_no == project_no and key not in unmoved],
                    causes,
                    project.now,
                )
                awaiting_here = [one for one in awaiting if one.key.project_no == project_no]
                told += await self._waking.wake(conn, project, rules, awaiting_here, mine, moved)
                told += await self._trigger(conn, project, known, mine, moved, refused)
            await refusal_counts.add(conn, refused)
        # After the commit: making a catalog may give numbers to names, and a number that was rolled back is nobody's.
        self._catalogs |= catalogs
        return Worked(subjects=len(claimed), told=told)

    async def failed(self, key: SubjectKey, error: str) -> int:
        """Count a failure of this subject's entries; returns how many were set aside for good."""
        async with self._transactions.write(None) as conn:
            now = await clock.now(conn)
            await memberships.postpone(conn, key, now + AFTER_FAILURE)
            return await inbox.failed(conn, key, error=error, now=now)

    async def _catalog(self, conn: Connection[Record], project: catalog.Current) -> Catalog:
        kept = self._catalogs.get(project.project_no)
        if kept is not None and kept.definitions_version == project.definitions_version:
            return kept
        listening = await catalog.listening(conn, project.project_no)
        named = {row.event_name for row in listening if row.event_name is not None}
        numbers = await event_names.ensure(conn, project.project_no, named)
        of_events: defaultdict[int, list[Listener]] = defaultdict(list)
        of_segments: defaultdict[tuple[int, bool], list[Listener]] = defaultdict(list)
        for row in listening:
            listener = Listener(
                prepared=await self._versions.get(conn, project.project_no, row.journey_id, row.latest_version),
                goal_revision=row.goal_revision,
                contract=contract_of(row),
                audience_id=row.audience_id,
                audience=audience_of(row.audience_id, row.audience),
            )
            if row.event_name is not None:
                of_events[numbers[row.event_name]].append(listener)
            elif row.segment_no is not None:
                of_segments[row.segment_no, row.entered].append(listener)
        return Catalog(
            definitions_version=project.definitions_version,
            of_events={number: tuple(found) for number, found in of_events.items()},
            of_segments={way: tuple(found) for way, found in of_segments.items()},
        )

    async def _trigger(
        self,
        conn: Connection[Record],
        project: catalog.Current,
        known: Catalog,
        entries: Sequence[inbox.Entry],
        moved: Sequence[Recorded],
        refused: Counter[refusal_counts.Slot],
    ) -> list[Told]:
        """Start what these entries start, and then what those start who have `moved` since.

        `now`, the instant of every decision, was read after the locks.
        """
        now = project.now

        def refuse(listener: Listener, key: SubjectKey, reason: EntryRefusal) -> None:
            journey_id = listener.prepared.version.journey_id
            refused[refusal_counts.slot(key.project_no, journey_id, reason.value, now, key.bucket)] += 1

        candidates: list[Candidate] = []
        for key, listener, contract, trigger in await self._heard(conn, project.project_no, known, entries):
            reason = refuse_trigger(contract, trigger, now)
            entry = entry_key(contract, trigger)
            if reason is not None or entry is None:
                refuse(listener, key, reason or EntryRefusal.ENTRY_KEY_MISSING)
            else:
                candidates.append(Candidate(key=key, listener=listener, trigger=trigger, entry_key=entry))
        candidates += await self._moved(conn, project.project_no, known, entries, moved)
        heard = {c.listener.prepared.version.journey_id for c in candidates}
        still_open = await journeys.keep_open(conn, project.project_no, heard) if heard else set()
        # A journey that was paused since the catalog was read takes nobody in.
        candidates = [c for c in candidates if c.listener.prepared.version.journey_id in still_open]
        if not candidates:
            return []
        listeners = {id(c.listener): c.listener for c in candidates}.values()
        subjects = await subject_facts.load(
            conn,
            self._versions.rule_book,
            project.project_no,
            sorted({c.key for c in candidates}),
            needs([asked for listener in listeners for asked in listener.asked]),
            now,
        )
        earlier = await _earlier(conn, project.project_no, candidates)
        admissions = Admissions(
            self._versions,
            project_no=project.project_no,
            project_id=project.project_id,
            settings=project.settings,
            sends_paused=project.sends_paused,
            now=now,
        )
        met: dict[tuple[str, EntryRefusal], tuple[Listener, Facts]] = {}
        for c in candidates:
            version = c.listener.prepared.version
            before = earlier[c.key, version.journey_id]
            found = subjects[c.key]
            kind, reason = "event", refuse_loop(c.trigger)
            if isinstance(c.listener.contract, SegmentContract):
                kind, reason = "segment", reason or refuse_transition(c.listener.contract, found.facts, now)
            reason = reason or refuse_subject(
                version, c.listener.audience, c.trigger, c.entry_key, found.facts, found.consent, before, now
            )
            if reason is not None:
                refuse(c.listener, c.key, reason)
                met[version.journey_id, reason] = c.listener, found.facts
                continue
            before.add(c.entry_key, c.trigger.at)
            admissions.admit(
                key=c.key,
                prepared=c.listener.prepared,
                goal_revision=c.listener.goal_revision,
                entry_kind=kind,
                entry_key=c.entry_key,
                trigger=c.trigger,
                known=found,
            )
        for (_, reason), (listener, facts) in met.items():
            asked = [listener.contract.predicate if isinstance(listener.contract, SegmentContract) else None]
            await audit_refusal(
                conn,
                project.project_no,
                listener.prepared.version,
                reason,
                now,
                audience_id=listener.audience_id,
                segment_id=missing_segment([*asked, listener.audience], facts, now),
            )
        return await admissions.write(conn)

    async def _heard(
        self, conn: Connection[Record], project_no: int, known: Catalog, entries: Sequence[inbox.Entry]
    ) -> list[tuple[SubjectKey, Listener, TriggerContract, Trigger]]:
        """Who listens to which of these events, in the order of their arrival."""
        arrivals = [
            Arrival(key=entry.key, name_no=name_no, event_no=event_no, occurred_at=occurred_at)
            for entry in entries
            for name_no, event_no, occurred_at in zip(entry.name_nos, entry.event_nos, entry.occurred_ats, strict=True)
            if name_no in known.of_events
        ]
        events = await inbox.events(conn, project_no, arrivals) if arrivals else {}
        hops = {event_no: entry.hops for entry in entries for event_no in entry.event_nos}
        return [
            (
                a.key,
                listener,
                listener.contract,
                Trigger(at=a.occurred_at, event_id=event[0], properties=event[1], hops=hops[a.event_no]),
            )
            for a in arrivals
            if (event := events.get(a.event_no)) is not None  # else dropped by retention meanwhile
            for listener in known.of_events[a.name_no]
            if isinstance(listener.contract, TriggerContract)
        ]

    async def _moved(
        self,
        conn: Connection[Record],
        project_no: int,
        known: Catalog,
        entries: Sequence[inbox.Entry],
        moved: Sequence[Recorded],
    ) -> list[Candidate]:
        """Who listens to which of these transitions, those that entries tell of and those just made, in their order.

        Which of a subject's entries has moved it nobody can tell: it counts as the one that comes from farthest away.
        """
        if not known.of_segments:
            return []
        hops: defaultdict[SubjectKey, int] = defaultdict(int)
        for entry in entries:
            hops[entry.key] = max(hops[entry.key], entry.hops)
        earlier = [number for entry in entries for number in entry.transition_nos]
        told = await memberships.recorded(conn, project_no, earlier) if earlier else []
        return [
            Candidate(
                key=one.transition.key,
                listener=listener,
                trigger=Trigger(at=one.at, hops=hops[one.transition.key]),
                entry_key=transition_key(listener.contract.segment_id, one.transition_no),
            )
            for one in [*told, *moved]
            for listener in known.of_segments.get((one.transition.segment_no, one.transition.entered), ())
            if isinstance(listener.contract, SegmentContract) and _counts(listener.contract, one.transition.cause)
        ]


def _mixed(told: Sequence[SubjectKey], due: Sequence[SubjectKey]) -> Iterator[SubjectKey]:
    """Both, each in its order; as long as there are of both, `due` has every DUE_SHARE-th place."""
    others = iter(told)
    for key in due:
        yield from islice(others, DUE_SHARE - 1)
        yield key
    yield from others


def _counts(contract: SegmentContract, cause: Cause) -> bool:
    """Whether who moved for this reason is let in. The past never starts anything, nor does becoming another."""
    match cause:
        case "data" | "time":
            return True
        case "definition":
            return contract.include_definition_changes
        case "backfill" | "merge":
            return False


def contract_of(row: catalog.Listening) -> TriggerContract | SegmentContract:
    """How a journey listens."""
    about = About.EVENT if row.segment_id is None else About.SUBJECT
    predicate = stored_predicate(row.predicate, about) if row.predicate is not None else None
    if row.segment_id is not None:
        return SegmentContract(
            trigger_contract_id=row.trigger_contract_id,
            segment_id=row.segment_id,
            predicate=predicate,
            include_definition_changes=row.include_definition_changes,
        )
    assert row.event_name is not None, "a contract names an event or a segment"
    return TriggerContract(
        trigger_contract_id=row.trigger_contract_id,
        event_name=row.event_name,
        predicate=predicate,
        entry_key_path=split_path(row.entry_key_path) if row.entry_key_path else (),
        max_event_age=row.max_event_age,
    )


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


def question(
    key: SubjectKey, journey_id: str, policy: Reentry, entry_keys: Iterable[str], ats: Sequence[datetime]
) -> Question:
    """What has to be known of earlier entries to decide about these."""
    reach = policy.interval if policy.kind is ReentryKind.INTERVAL and policy.interval is not None else None
    return Question(
        key=key,
        journey_id=journey_id,
        any_entry=policy.kind is ReentryKind.ONCE,
        entry_keys=frozenset(entry_keys),
        since=_shifted(min(ats), -reach) if reach is not None else None,
        until=_shifted(max(ats), reach) if reach is not None else None,
    )


_FIRST, _LAST = datetime.fromisoformat("1800-01-01T00:00:00+00:00"), datetime.fromisoformat("2300-01-01T00:00:00+00:00")


def _shifted(at: datetime, by: timedelta) -> datetime:
    return min(max(at + by, _FIRST), _LAST)


async def _earlier(
    conn: Connection[Record], project_no: int, candidates: Sequence[Candidate]
) -> dict[tuple[SubjectKey, str], Earlier]:
    groups: defaultdict[tuple[SubjectKey, str], list[Candidate]] = defaultdict(list)
    for c in candidates:
        groups[c.key, c.listener.prepared.version.journey_id].append(c)
    questions = [
        question(
            key,
            journey_id,
            reentry_of(group[0].listener.prepared.version, group[0].trigger),
            (c.entry_key for c in group),
            [c.trigger.at for c in group],
        )
        for (key, journey_id), group in groups.items()
    ]
    found = await enrollments.earlier(conn, project_no, questions)
    return {at: Earlier.of(entries) for at, entries in zip(groups, found, strict=True)}


async def audit_refusal(
    conn: Connection[Record],
    project_no: int,
    version: JourneyVersion,
    reason: EntryRefusal,
    now: datetime,
    *,
    audience_id: str | None,
    segment_id: str | None,
) -> None:
    """Note that a journey refuses entries because its definition is broken: once an hour for each reason."""
    if reason in _AUDITED:
        said: dict[str, str | int | bool] = {"version": version.version}
        if reason is EntryRefusal.AUDIENCE_NOT_FOUND:
            said["audienceId"] = audience_id or ""
        else:
            said["segmentId"] = segment_id or ""
        await audit.append_hourly(
            conn, project_no=project_no, at=now, action=_AUDITED[reason], resource_id=version.journey_id, metadata=said
        )
