"""What a journey would do with a subject, or where it can lead at all. Production's code decides; nothing is written,
nobody is sent anything, no workflow starts.

What is stored is read in one transaction that cannot write, and what happens then happens in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import subject_facts, subjects
from orchestrator.application.entry_explanations import (
    ENROLL,
    EVENT,
    SEGMENT,
    TRIGGER_PREDICATE,
    Asked,
    Gate,
    Way,
    gates_of,
    transition_gate,
)
from orchestrator.application.policies import Policies, arms_of
from orchestrator.application.simulation_grounds import Ground, Grounds
from orchestrator.application.simulation_questions import Override, Question, happening, question_faults
from orchestrator.application.simulation_traces import Stop, Trace, Traces
from orchestrator.application.simulation_work import Content
from orchestrator.application.threads import in_thread
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.arms import Arms
from orchestrator.domain.conditions import Entry
from orchestrator.domain.entry import (
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    event_facts,
    refuse_trigger,
    transition_key,
)
from orchestrator.domain.holdout import held_out_by
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.reachable import Holds, Reachable, reachable
from orchestrator.domain.refusals import InvalidArgument, PermissionDenied
from orchestrator.domain.scope import Role, Scope, SubjectKey
from orchestrator.domain.simulation import Came, Occurs, Profile, Surroundings, World
from orchestrator.predicates.explain import explain
from orchestrator.predicates.facts import Facts, Needs, needs
from orchestrator.predicates.reveal import Reveal
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import facts, sends, sends_pauses

#: Simulations at a time. One takes some seconds of a processor at most, and leaves the loop to others meanwhile.
AT_ONCE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What would come of one entry. `subject_id` "": of nobody who is stored."""

    subject_id: str
    way: Way
    held_out_by: str | None
    overrides: frozenset[Override]
    started_at: datetime
    trace: Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """`version` None: the draft. `simulation` and `paths` as they were asked for."""

    journey_id: str
    version: int | None
    simulation: Simulation | None
    paths: Reachable | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """All that a simulation goes by."""

    question: Question
    ground: Ground
    world: World
    subject_id: str
    way: Way
    held_out_by: str | None
    came: Came
    contents: Mapping[str, Content]
    inlined: Mapping[int, Predicate]
    arms: Arms


class Simulations:
    """One per process."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._grounds = Grounds(versions)
        self._policies = Policies(time_to_live=timedelta(0))
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def simulate(
        self, transactions: Transactions, scope: Scope, question: Question, *, late: timedelta = timedelta(0)
    ) -> Simulated:
        """Raises PermissionDenied for overrides of others than owners, InvalidArgument with all faults, NotFound
        JOURNEY_NOT_FOUND, SUBJECT_NOT_FOUND, and FailedPrecondition INVALID_DEFINITION, with every fault, of a draft
        that could not be published.

        `late`: domain/simulation.py, Traveler.
        """
        if question.overrides and scope.role is not Role.OWNER:
            raise PermissionDenied("ROLE_TOO_LOW", "overrides need the role owner", requiredRole="owner")
        async with transactions.snapshot(scope.project_no) as conn:
            ground = await self._grounds.of(conn, scope, question.journey_id)
            if faults := question_faults(question, ground.version.definition, ground.project.now):
                raise InvalidArgument(faults)
            read = await self._read(conn, scope, question, ground) if question.names_somebody else None
        simulation = await self._in_turn(read, late) if read is not None else None
        settings = ground.project.settings
        holds = Holds(quiet=settings.quiet_hours, caps=settings.frequency_caps)
        return Simulated(
            journey_id=question.journey_id,
            version=ground.number,
            simulation=simulation,
            paths=reachable(ground.version, holds) if question.all_paths else None,
        )

    async def _in_turn(self, read: _Read, late: timedelta) -> Simulation:
        """In a thread, a few at a time: one that nobody waits for any more keeps its place until it is done."""
        await self._turns.acquire()
        working = asyncio.create_task(in_thread(_simulated, read, late))
        working.add_done_callback(lambda _: self._turns.release())
        return await asyncio.shield(working)

    async def _read(self, conn: Connection[Record], scope: Scope, question: Question, ground: Ground) -> _Read:
        start = question.starts_at or ground.project.now
        asked = [*ground.prepared.asked, *ground.asked_at_entry]
        cohorts = (await self._versions.rule_book.of(conn, ground.project)).cohorts
        inlined = {id(predicate): cohorts.inline(predicate) for predicate in asked}
        wanted = needs([*asked, *inlined.values()])
        rules = await subject_facts.rules_asked(conn, self._versions.rule_book, scope.project_no, wanted)
        wanted |= needs(rules.values())
        key, profile = await self._profile(conn, scope, question, ground, wanted, start)
        consent = profile.consent
        if Override.OPT_OUT in question.overrides:
            consent = replace(consent, opt_outs=frozenset())
        if Override.SUPPRESSION in question.overrides:
            consent = replace(consent, suppressed=frozenset())
        profile = replace(profile, rules=rules, consent=consent)
        settings = ground.project.settings
        journey_id = question.journey_id
        surroundings = Surroundings(
            time_zone=settings.time_zone,
            quiet=settings.quiet_hours,
            caps=() if Override.FREQUENCY_CAP in question.overrides else settings.frequency_caps,
            sends_paused=bool({sends_pauses.ALL, journey_id} & set(ground.project.sends_paused)),
            goal=ground.goal,
        )
        supposed = [happening(one, start) for one in question.supposed]
        if isinstance(ground.contract, TriggerContract):  # the event that starts it has come, as all others
            supposed.append(Occurs(at=start, name=ground.contract.event_name, properties=question.entry or {}))
        world = World(profile, surroundings, wanted, supposed)
        gates_asked = Asked(
            key=key,
            prepared=ground.prepared,
            status=JourneyStatus.ACTIVE,
            audience=ground.audience,
            contract=ground.contract,
            crowd=None,
            transition=ground.transition,
            known=facts.Known(subject_id=profile.subject_id, facts=world.facts(start), consent=consent),
            inlined=inlined,
            held=(),
            now=start,
            reveal=_reveal(question, ground),
        )
        way, entry = await _way(conn, gates_asked, question.entry)
        held_out: str | None = None
        if key is not None and Override.HOLDOUT not in question.overrides:
            held_out = held_out_by(
                settings.global_holdout,
                ground.version.definition.holdout,
                project_id=scope.project_id,
                journey_id=journey_id,
                subject_id=profile.subject_id,
            )
        return _Read(
            question=question,
            ground=ground,
            world=world,
            subject_id=profile.subject_id,
            way=way,
            held_out_by=held_out,
            contents=await self._grounds.contents(conn, scope.project_no, ground.version),
            came=Came(entry=entry, properties=question.entry or {}, started_at=start),
            inlined=inlined,
            arms=await arms_of(conn, self._policies, scope, ground.version, key),
        )

    async def _profile(
        self,
        conn: Connection[Record],
        scope: Scope,
        question: Question,
        ground: Ground,
        wanted: Needs,
        start: datetime,
    ) -> tuple[SubjectKey | None, Profile]:
        """Who travels: a subject as it is stored, or somebody made up, who is on no list and to whom nothing happened.

        Raises NotFound SUBJECT_NOT_FOUND.
        """
        if not question.subject_id:
            lists = (await self._versions.rule_book.of(conn, ground.project)).lists
            made_up = Facts(
                attributes=question.attributes or {},
                known_cohorts=wanted.cohorts & lists.keys(),
                created_at=start,
                time_zone=question.time_zone or None,
            )
            return None, Profile(subject_id="", facts=made_up)
        key, _ = await subjects.find(conn, scope.project_no, question.subject_id)
        known = (await facts.load(conn, scope.project_no, [key], wanted))[key]
        caps = ground.project.settings.frequency_caps
        longest = max((cap.window for cap in caps), default=timedelta(0))
        messages = await sends.counted(conn, key, start - longest) if caps else []
        return key, Profile(
            subject_id=known.subject_id, facts=known.facts, consent=known.consent, messages=tuple(messages)
        )


def _simulated(read: _Read, late: timedelta) -> Simulation:
    """Takes a processor as long as it does: for a thread."""
    started_at = read.came.started_at
    if read.way.refusal is not None and not read.question.enters_anyway:
        trace = Trace(steps=(), stop=Stop.NOT_ENTERED, at=started_at)
    elif read.held_out_by is not None:
        trace = Trace(steps=(), stop=Stop.HELD_OUT, at=started_at)
    else:
        ground = read.ground
        question = read.question
        traces = Traces(
            ground.version,
            read.world,
            read.contents,
            read.inlined,
            question.answers,
            read.arms,
            reveal=_reveal(question, ground),
        )
        trace = traces.trace(read.came, late=late)
    return Simulation(
        subject_id=read.subject_id,
        way=read.way,
        held_out_by=read.held_out_by,
        overrides=read.question.overrides,
        started_at=started_at,
        trace=trace,
    )


def _reveal(question: Question, ground: Ground) -> Reveal | None:
    """What is shown of who travels: of somebody made up, whose attributes were given, everything."""
    return ground.project.settings.reveal if question.subject_id else None


async def _way(conn: Connection[Record], asked: Asked, given: Mapping[str, Any] | None) -> tuple[Way, Entry]:
    """How it comes in: by what the journey listens to, or by hand; and the entry that this makes."""
    at = asked.now
    match asked.contract:
        case TriggerContract() as contract:
            trigger = Trigger(at=at, event_id=new_uuid().hex, properties=given or {})
            own: tuple[Gate, ...] = ()
            key = trigger.event_id
            if given is not None:  # else it is one that the contract takes
                own = (_event_gate(contract, trigger, at),)
                key = entry_key(contract, trigger)
            gates = await gates_of(conn, asked, trigger, key or "")
            return Way(kind=EVENT, gates=(*own, *gates), contract=contract), Entry(key=key or "", at=at)
        case SegmentContract() as contract:
            key = transition_key(contract.segment_id, 0)
            gates = (transition_gate(asked, contract), *await gates_of(conn, asked, Trigger(at=at), key))
            way = Way(kind=SEGMENT, gates=gates, contract=contract, transition=asked.transition)
            return way, Entry(key=key, at=at)
        case None:
            key = f"enroll:{new_uuid().hex}"
            return Way(kind=ENROLL, gates=await gates_of(conn, asked, Trigger(at=at), key)), Entry(key=key, at=at)


def _event_gate(contract: TriggerContract, trigger: Trigger, now: datetime) -> Gate:
    """What the contract has against the event that was given, whose values may be shown."""
    refusal = refuse_trigger(contract, trigger, now)
    told = None
    if contract.predicate is not None:
        told = explain(contract.predicate, event_facts(trigger), now, reveal=None)
    return Gate(name=TRIGGER_PREDICATE, refusal=refusal.value if refusal is not None else None, explanation=told)
