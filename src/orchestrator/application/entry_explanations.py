"""Would this subject be let into this journey now, and why (not)? Asks the gates of admission, and writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import subject_facts
from orchestrator.application.earlier_entries import question
from orchestrator.application.event_hops import hops_of
from orchestrator.application.holding import AT_MOST
from orchestrator.application.journeys import not_found
from orchestrator.application.listeners import audience_of, contract_of
from orchestrator.application.versions import Prepared, Versions
from orchestrator.domain.entry import (
    AUDIENCE,
    DATES,
    Earlier,
    EntryRefusal,
    Gone,
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    event_facts,
    gates,
    reentry_of,
    refuse_date,
    refuse_loop,
    refuse_subject,
    refuse_transition,
    refuse_trigger,
    transition_key,
)
from orchestrator.domain.holdout import held_out_by
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.journey import JourneyStatus, WhilePaused
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.explain import explain
from orchestrator.predicates.facts import Facts, needs
from orchestrator.predicates.reveal import Reveal, of_properties
from orchestrator.predicates.tree import InCohort, Predicate
from orchestrator.storage import catalog, enrollments, happenings, held_entries, refusal_counts, subjects
from orchestrator.storage.enrollments import Entered
from orchestrator.storage.facts import Known
from orchestrator.storage.happenings import Occurred
from orchestrator.storage.held_entries import HeldEntry

#: Events, enrollments and held entries that are told of.
SHOWN = 10

#: How far back refusals are counted.
LATELY = timedelta(days=7)

#: Gates of the journey and of its trigger; those about the subject are domain/entry.py's.
JOURNEY, TRIGGER_PREDICATE, CROWD = "journey", "trigger_predicate", "crowd"
#: The ways in.
EVENT, SEGMENT, SCHEDULE, ENROLL = "event", "segment", "schedule", "enroll"
#: Why nobody is let in. Such entries are not counted: nobody listens.
NOT_ACTIVE = "journey_not_active"
#: No refusal: it waits for the journey to be resumed, or for what is asked of the subject.
HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate and what it has against the subject; `explanation` is what predicates/explain.py says, where it asks."""

    name: str
    refusal: str | None
    explanation: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way in, as if it were taken now: an event that its contract takes, a transition, a time that is due, a call
    to enroll. Who is enrolled on schedule is in that segment, if it is one.
    """

    kind: str
    gates: tuple[Gate, ...]
    contract: TriggerContract | SegmentContract | None = None
    transition: str = ""
    segment_id: str = ""

    @property
    def refusal(self) -> str | None:
        """What would be counted: the first gate's."""
        return next((gate.refusal for gate in self.gates if gate.refusal is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An event of the trigger's name. `refusal`: why it would be refused if it arrived now, or HELD; `enrollment`: that
    it led to, or that has its key.
    """

    event: Occurred
    entry_key: str | None
    refusal: str | None
    enrollment: Entered | None
    explanation: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryExplanation:
    """`refused` counts the entries of anybody that the journey refused lately, by reason. `held_out_by`: the holdout
    that keeps the subject from its steps, though let in (domain/holdout.py).
    """

    journey_id: str
    version: int | None
    subject_id: str
    active: bool
    ways: tuple[Way, ...]
    events: tuple[Heard, ...]
    earlier: tuple[Entered, ...]
    held: tuple[HeldEntry, ...]
    refused: Mapping[str, int]
    held_out_by: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the gates are asked with. `key` None: of somebody who is not stored, and has never entered.

    `inlined` are predicates with the rules of their segments put in, to be shown. `reveal`: which values are shown;
    None: all.
    """

    key: SubjectKey | None
    prepared: Prepared
    status: JourneyStatus
    audience: Predicate | Gone | None
    contract: TriggerContract | SegmentContract | None
    # whom the schedule enrolls; None: everyone, or the audience
    crowd: Predicate | None
    # of a segment's contract
    transition: str
    known: Known
    inlined: Mapping[int, Predicate]
    # keys of entries of this subject that are held
    held: Collection[str]
    now: datetime
    reveal: Reveal | None

    @property
    def shut(self) -> str | None:
        """What the journey itself has against whoever comes by its trigger."""
        match self.status:
            case JourneyStatus.ACTIVE:
                return None
            case JourneyStatus.PAUSED:
                holds = self.prepared.version.definition.while_paused is WhilePaused.HOLD
                return HELD if holds else EntryRefusal.JOURNEY_PAUSED.value
            case _:
                return NOT_ACTIVE

    def told(self, predicate: Predicate | Gone | None, facts: Facts) -> Mapping[str, Any] | None:
        """Why a predicate about the subject holds or not."""
        if predicate is None or isinstance(predicate, Gone):
            return None
        return explain(self.inlined.get(id(predicate), predicate), facts, self.now, reveal=self.reveal)


async def explain_entry(
    conn: Connection[Record], scope: Scope, versions: Versions, journey_id: str, subject_id: str
) -> EntryExplanation:
    """Raises NotFound: JOURNEY_NOT_FOUND, SUBJECT_NOT_FOUND."""
    project_no = scope.project_no
    journey = await catalog.entered_by_hand(conn, project_no, journey_id, hold=False)
    if journey is None:
        raise not_found(journey_id)
    found = await subjects.find(conn, project_no, subject_id)
    if found is None:
        raise NotFound("SUBJECT_NOT_FOUND", "there is no such subject", subjectId=subject_id)
    key, subject = found
    project = (await catalog.current(conn, [project_no]))[project_no]
    now = project.now
    ways: tuple[Way, ...] = ()
    events: tuple[Heard, ...] = ()
    holdout: str | None = None
    held = await held_entries.newest(conn, key, journey_id, AT_MOST)
    if journey.latest_version is not None:
        asked = await _asked(conn, versions, key, journey_id, journey, project, {one.entry_key for one in held})
        ways = tuple([way async for way in _ways(conn, asked)])
        events = tuple(await _heard(conn, asked))
        holdout = held_out_by(
            project.settings.global_holdout,
            asked.prepared.version.definition.holdout,
            project_id=scope.project_id,
            journey_id=journey_id,
            subject_id=subject.subject_id,
        )
    return EntryExplanation(
        journey_id=journey_id,
        version=journey.latest_version,
        subject_id=subject.subject_id,
        active=journey.status == JourneyStatus.ACTIVE.value,
        ways=ways,
        events=events,
        earlier=tuple(await enrollments.newest(conn, key, journey_id, limit=SHOWN)),
        held=tuple(held[:SHOWN]),
        refused=await refusal_counts.since(conn, project_no, journey_id, now - LATELY),
        held_out_by=holdout,
        at=now,
    )


async def _asked(
    conn: Connection[Record],
    versions: Versions,
    key: SubjectKey,
    journey_id: str,
    journey: catalog.EnteredByHand,
    project: catalog.Current,
    held: Collection[str],
) -> Asked:
    assert journey.latest_version is not None, "a journey without a version has no ways in"
    listening = await catalog.listens(conn, key.project_no, journey_id)
    newest = journey.latest_version if listening is None else listening.latest_version
    prepared = await versions.get(conn, key.project_no, journey_id, newest)
    contract = contract_of(listening, prepared.version) if listening is not None else None
    audience = audience_of(journey.audience_id, journey.audience)
    of_subject = [audience] if audience is not None and not isinstance(audience, Gone) else []
    if isinstance(contract, SegmentContract) and contract.predicate is not None:
        of_subject.append(contract.predicate)
    schedule = prepared.version.definition.schedule
    crowd = (
        InCohort(cohort_id=schedule.segment_id) if schedule is not None and schedule.segment_id is not None else None
    )
    of_subject += [crowd] if crowd is not None else []
    cohorts = (await versions.rule_book.of(conn, project)).cohorts
    inlined = {id(predicate): cohorts.inline(predicate) for predicate in of_subject}
    loaded = await subject_facts.load(
        conn,
        versions.rule_book,
        key.project_no,
        [key],
        needs([*prepared.asked, *of_subject, *inlined.values()]),
        project.now,
    )
    if key not in loaded:  # deleted, or merged into another, since it was looked up
        raise NotFound("SUBJECT_NOT_FOUND", "there is no such subject")
    return Asked(
        key=key,
        prepared=prepared,
        status=JourneyStatus(journey.status),
        audience=audience,
        contract=contract,
        crowd=crowd,
        transition="entered" if listening is not None and listening.entered else "left",
        known=loaded[key],
        inlined=inlined,
        held=held,
        now=project.now,
        reveal=project.settings.reveal,
    )


async def _ways(conn: Connection[Record], asked: Asked) -> AsyncIterator[Way]:
    """The trigger's way in, and by hand."""
    match asked.contract:
        case TriggerContract():
            # One that nobody has sent before, and that the contract takes.
            trigger = Trigger(at=asked.now, event_id=new_uuid().hex)
            assert trigger.event_id is not None
            ask = await _gates(conn, asked, trigger, trigger.event_id, asked.shut)
            yield Way(kind=EVENT, gates=ask, contract=asked.contract)
        case SegmentContract() as contract:
            own = transition_gate(asked, contract)
            trigger, entry = Trigger(at=asked.now), transition_key(contract.segment_id, 0)
            ask = await _gates(conn, asked, trigger, entry, asked.shut, own)
            yield Way(kind=SEGMENT, gates=ask, contract=contract, transition=asked.transition)
        case None:
            pass
    shut = None if asked.status is JourneyStatus.ACTIVE else NOT_ACTIVE
    if (schedule := asked.prepared.version.definition.schedule) is not None:
        crowd = [] if asked.crowd is None else [_crowd(asked, asked.crowd)]
        ask = await _gates(conn, asked, Trigger(at=asked.now), f"job:{new_uuid().hex}", shut, *crowd)
        yield Way(kind=SCHEDULE, gates=ask, segment_id=schedule.segment_id or "")
    yield Way(kind=ENROLL, gates=await _gates(conn, asked, Trigger(at=asked.now), f"enroll:{new_uuid().hex}", shut))


def transition_gate(asked: Asked, contract: SegmentContract) -> Gate:
    """What the contract itself has against the subject."""
    refusal = refuse_transition(contract, asked.known.facts, asked.now)
    return Gate(
        name=TRIGGER_PREDICATE,
        refusal=refusal.value if refusal is not None else None,
        explanation=asked.told(contract.predicate, asked.known.facts),
    )


def _crowd(asked: Asked, crowd: Predicate) -> Gate:
    facts = asked.known.facts
    try:
        refusal = None if evaluate(crowd, facts, asked.now) else CROWD
    except Missing:
        refusal = EntryRefusal.COHORT_NOT_FOUND.value
    return Gate(name=CROWD, refusal=refusal, explanation=asked.told(crowd, facts))


async def _gates(
    conn: Connection[Record], asked: Asked, trigger: Trigger, entry: str, shut: str | None, *own: Gate
) -> tuple[Gate, ...]:
    """In the order in which they are asked. `shut`: what the journey itself says, whose pause comes after its dates."""
    of_subject = await gates_of(conn, asked, trigger, entry)
    journey = Gate(name=JOURNEY, refusal=shut)
    if shut not in (None, NOT_ACTIVE):
        dates = [gate for gate in of_subject if gate.name == DATES]
        return (*dates, journey, *own, *(gate for gate in of_subject if gate.name != DATES))
    return (journey, *own, *of_subject)


async def gates_of(conn: Connection[Record], asked: Asked, trigger: Trigger, entry: str) -> tuple[Gate, ...]:
    """The gates about the subject that admission asks (domain/entry.py), in their order."""
    earlier = (await _earlier(conn, asked, [(trigger, entry)]))[0]
    version, known = asked.prepared.version, asked.known
    found = gates(version, asked.audience, trigger, entry, known.facts, known.consent, earlier, asked.now)
    return tuple(
        Gate(
            name=name,
            refusal=refusal.value if refusal is not None else None,
            explanation=asked.told(asked.audience, known.facts) if name == AUDIENCE else None,
        )
        for name, refusal in found
    )


async def _heard(conn: Connection[Record], asked: Asked) -> Sequence[Heard]:
    """The subject's newest events of the trigger's name, and what would become of each if it arrived now."""
    contract = asked.contract
    if not isinstance(contract, TriggerContract):
        return ()
    assert asked.key is not None, "whoever is explained is stored"
    events = await happenings.recent(conn, asked.key, contract.event_name, SHOWN)
    hops = await hops_of(conn, asked.key, events)
    triggers = [
        Trigger(at=e.occurred_at, event_id=e.event_id, properties=e.properties, hops=hops.get(e.event_id, 0))
        for e in events
    ]
    keys = [entry_key(contract, trigger) for trigger in triggers]
    keyed = [(trigger, key) for trigger, key in zip(triggers, keys, strict=True) if key is not None]
    earlier = iter(await _earlier(conn, asked, keyed))
    entered: dict[str, Entered] = {}
    if keyed:
        of_keys = await enrollments.newest(
            conn, asked.key, asked.prepared.version.journey_id, entry_keys=[key for _, key in keyed], limit=SHOWN
        )
        entered = {one.entry_key: one for one in of_keys}
    return [
        _judged(asked, contract, event, trigger, key, next(earlier) if key is not None else None, entered)
        for event, trigger, key in zip(events, triggers, keys, strict=True)
    ]


def _judged(
    asked: Asked,
    contract: TriggerContract,
    event: Occurred,
    trigger: Trigger,
    key: str | None,
    earlier: Earlier | None,
    entered: Mapping[str, Entered],
) -> Heard:
    version, known = asked.prepared.version, asked.known
    reason = refuse_trigger(contract, trigger, asked.now) or refuse_loop(trigger)
    if reason is None and asked.status is JourneyStatus.PAUSED:
        reason = refuse_date(version, asked.now)
    elif reason is None and key is not None and earlier is not None:
        reason = refuse_subject(
            version, asked.audience, trigger, key, known.facts, known.consent, earlier, asked.now
        )  # fmt: skip
    refusal = reason.value if reason is not None else asked.shut
    if key in asked.held:
        refusal = HELD
    told = None
    if contract.predicate is not None:
        told = explain(contract.predicate, event_facts(trigger), asked.now, reveal=of_properties(asked.reveal))
    return Heard(
        event=event,
        entry_key=key,
        refusal=refusal,
        enrollment=entered.get(key) if key is not None else None,
        explanation=told,
    )


async def _earlier(conn: Connection[Record], asked: Asked, entries: Sequence[tuple[Trigger, str]]) -> list[Earlier]:
    """Of earlier entries, that which the policy asks for each of these."""
    if asked.key is None:
        return [Earlier.of([]) for _ in entries]
    version = asked.prepared.version
    found = await enrollments.earlier(
        conn,
        asked.key.project_no,
        [
            question(asked.key, version.journey_id, reentry_of(version, trigger), (key,), [trigger.at])
            for trigger, key in entries
        ],
    )
    return [Earlier.of(rows) for rows in found]
