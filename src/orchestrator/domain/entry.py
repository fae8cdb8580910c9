"""May this subject enter this journey now? The gates at entry, in their order, over loaded facts.

Order: trigger predicate, the event's age, hops, the version's dates, a pause of the journey, audience, re-entry,
suppression and opt-out. What a segment's trigger asks of the subject comes behind the pause. The first that refuses
gives the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from orchestrator.domain.conditions import key_in
from orchestrator.domain.gates import OPTED_OUT, SUPPRESSED, Consent
from orchestrator.domain.journey import JourneyVersion, Reentry, ReentryKind, Send
from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.tree import Predicate


class EntryRefusal(Enum):
    """Why an entry was refused; the values stand in the ledger and in the API."""

    TRIGGER_PREDICATE = "trigger_predicate"
    TOO_OLD = "too_old"
    ENTRY_KEY_MISSING = "entry_key_missing"
    # the version's dates
    NOT_STARTED = "not_started"
    ENDED = "ended"
    AUDIENCE_NOT_FOUND = "audience_not_found"
    # a predicate names something that no longer exists
    COHORT_NOT_FOUND = "cohort_not_found"
    AUDIENCE = "audience"
    REENTRY = "re_entry"
    SUPPRESSED = "suppressed"
    OPTED_OUT = "opted_out"
    # whoever comes while it is paused, unless it holds them
    JOURNEY_PAUSED = "journey_paused"
    # of those it held: it is over
    JOURNEY_ARCHIVED = "journey_archived"
    # executions start one another
    LOOP = "loop"
    # it was asked that they be forgotten, and their id has come back
    SUBJECT_FORGOTTEN = "subject_forgotten"


#: So many executions in a row may each be started by what the one before it told or changed.
MAX_HOPS = 10
#: Whoever was started longer ago than this begins a new row by what they tell: they go round slowly, as is their right.
HOP_MEMORY = timedelta(hours=24)


#: What a subject can come to meet: data about it that arrives late.
MAY_COME = frozenset({EntryRefusal.TRIGGER_PREDICATE, EntryRefusal.AUDIENCE})

#: A reason whose cause is a broken definition rather than the subject: worth an entry in the audit log.
BROKEN = frozenset({EntryRefusal.AUDIENCE_NOT_FOUND, EntryRefusal.COHORT_NOT_FOUND})

#: The gates about a subject, as whoever asks why is told of them.
DATES, AUDIENCE, REENTRY, CONSENT = "dates", "audience", "re_entry", "consent"

_CONSENT = {SUPPRESSED: EntryRefusal.SUPPRESSED, OPTED_OUT: EntryRefusal.OPTED_OUT}


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerContract:
    """Which event starts executions, and how it is read. `predicate` is over the event's properties;
    None takes every one.
    """

    trigger_contract_id: str
    event_name: str
    predicate: Predicate | None
    # a path into the properties; empty: the event's id is the entry key
    entry_key_path: tuple[str, ...]
    max_event_age: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentContract:
    """Which way in or out of a segment starts executions. `predicate` is over the subject; None takes everybody."""

    trigger_contract_id: str
    segment_id: str
    predicate: Predicate | None
    include_definition_changes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What starts an execution, and when: an event, a subject that was found to have come to a segment or left it, or a
    call to enroll. Only the first has an id and properties.

    `hops`: how many executions, each started by the one before, led to it; 0: it came from outside.
    """

    at: datetime
    event_id: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    hops: int = 0


@dataclass(slots=True, kw_only=True)
class Earlier:
    """Earlier entries of the subject into the journey, as far as its policy asks;
    admissions of the same transaction are added.
    """

    entry_keys: set[str]
    instants: list[datetime]

    @classmethod
    def of(cls, entries: Iterable[tuple[str, datetime]]) -> Earlier:
        rows = list(entries)
        return cls(entry_keys={key for key, _ in rows}, instants=[at for _, at in rows])

    def add(self, entry_key: str, at: datetime) -> None:
        self.entry_keys.add(entry_key)
        self.instants.append(at)


def reentry_of(version: JourneyVersion, trigger: Trigger) -> Reentry:
    """The journey's policy, or the default of the way in: `entry_key` for events, `once` for everything else."""
    if version.definition.reentry is not None:
        return version.definition.reentry
    return Reentry(kind=ReentryKind.ENTRY_KEY if trigger.event_id is not None else ReentryKind.ONCE)


def entry_key(contract: TriggerContract, trigger: Trigger) -> str | None:
    """What tells this entry from another; None when the event lacks the field it is read from."""
    assert trigger.event_id is not None, "only events have contracts"
    if not contract.entry_key_path:
        return trigger.event_id
    return key_in(trigger.properties, contract.entry_key_path)


def refuse_trigger(contract: TriggerContract, trigger: Trigger, now: datetime) -> EntryRefusal | None:
    """What the contract itself has against an event. Needs nothing about the subject."""
    if contract.predicate is not None and not evaluate(contract.predicate, event_facts(trigger), now):
        return EntryRefusal.TRIGGER_PREDICATE
    if now - trigger.at > contract.max_event_age:
        return EntryRefusal.TOO_OLD
    return EntryRefusal.ENTRY_KEY_MISSING if entry_key(contract, trigger) is None else None


def refuse_loop(trigger: Trigger) -> EntryRefusal | None:
    """Executions that start one another would do so for ever."""
    return EntryRefusal.LOOP if trigger.hops > MAX_HOPS else None


def hops_from(hops: int, started_at: datetime, now: datetime) -> int:
    """The hops of what an execution tells or changes now, which has `hops` itself."""
    return hops + 1 if now - started_at < HOP_MEMORY else 1


def event_facts(trigger: Trigger) -> Facts:
    """What the predicate of a contract may ask of an event."""
    return Facts(attributes=trigger.properties)


def transition_key(segment_id: str, transition_no: int) -> str:
    """What tells the entry of one transition from all others."""
    return f"segment:{segment_id}:{transition_no}"


def refuse_transition(contract: SegmentContract, facts: Facts, now: datetime) -> EntryRefusal | None:
    """What the contract itself has against a subject that came or went."""
    try:
        if contract.predicate is not None and not evaluate(contract.predicate, facts, now):
            return EntryRefusal.TRIGGER_PREDICATE
    except Missing:
        return EntryRefusal.COHORT_NOT_FOUND
    return None


def missing_segment(asked: Iterable[Predicate | Gone | None], facts: Facts, now: datetime) -> str | None:
    """The segment that does not exist, of the first of these predicates that names one."""
    for predicate in asked:
        if predicate is None or isinstance(predicate, Gone):
            continue
        try:
            evaluate(predicate, facts, now)
        except Missing as missing:
            return missing.id
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The audience a journey names is no longer there."""


def refuse_date(version: JourneyVersion, now: datetime) -> EntryRefusal | None:
    """What the version's dates have against anybody who comes now."""
    definition = version.definition
    if definition.starts_at is not None and now < definition.starts_at:
        return EntryRefusal.NOT_STARTED
    if definition.ends_at is not None and now >= definition.ends_at:
        return EntryRefusal.ENDED
    return None


def refuse_subject(
    version: JourneyVersion,
    audience: Predicate | Gone | None,
    trigger: Trigger,
    key: str,
    facts: Facts,
    consent: Consent,
    earlier: Earlier,
    now: datetime,
) -> EntryRefusal | None:
    """What stands between this subject and this journey. `audience` None means everyone; `key` is the entry's key."""
    asked = gates(version, audience, trigger, key, facts, consent, earlier, now)
    return next((refusal for _, refusal in asked if refusal is not None), None)


def gates(
    version: JourneyVersion,
    audience: Predicate | Gone | None,
    trigger: Trigger,
    key: str,
    facts: Facts,
    consent: Consent,
    earlier: Earlier,
    now: datetime,
) -> Iterator[tuple[str, EntryRefusal | None]]:
    """The gates between this subject and this journey in their order, each with what it has against the subject. Who
    only wants to know whether there is one stops at the first."""
    yield DATES, refuse_date(version, now)
    yield AUDIENCE, _outside(audience, facts, now)
    entered = _entered_before(reentry_of(version, trigger), trigger, key, earlier)
    yield REENTRY, EntryRefusal.REENTRY if entered else None
    routes = [
        (version.pinned[step.communication_id].channel, version.pinned[step.communication_id].category)
        for step in version.definition.steps.values()
        if isinstance(step, Send)
    ]
    blocked = consent.blocks_all(routes)
    yield CONSENT, _CONSENT[blocked] if blocked is not None else None


def _outside(audience: Predicate | Gone | None, facts: Facts, now: datetime) -> EntryRefusal | None:
    if isinstance(audience, Gone):
        return EntryRefusal.AUDIENCE_NOT_FOUND
    try:
        return None if audience is None or evaluate(audience, facts, now) else EntryRefusal.AUDIENCE
    except Missing:
        return EntryRefusal.COHORT_NOT_FOUND


def _entered_before(policy: Reentry, trigger: Trigger, key: str, earlier: Earlier) -> bool:
    if key in earlier.entry_keys:  # one entry never enters twice, whatever the policy
        return True
    match policy.kind:
        case ReentryKind.ONCE:
            return bool(earlier.instants)
        case ReentryKind.INTERVAL:
            assert policy.interval is not None, "the form refuses an interval policy without one"
            # Events may come out of order, so both directions count: no two entries are closer than the interval.
            return any(abs(trigger.at - at) < policy.interval for at in earlier.instants)
        case ReentryKind.ENTRY_KEY:
            return False
