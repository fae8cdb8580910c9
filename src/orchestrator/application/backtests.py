"""What a journey would have done within the last days: the events of real subjects, replayed through entry and core.

Subjects are taken bucket by bucket, on one snapshot, until all were or time is up; what was counted of some of them
stands for all, as in estimates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from asyncpg import Connection, QueryCanceledError, Record

from orchestrator.application import subject_facts
from orchestrator.application.policies import Policies, arms_of
from orchestrator.application.simulation_grounds import Ground, Grounds
from orchestrator.application.threads import in_thread
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.backtest import DAYS, Past, Plan, Tally, replay
from orchestrator.domain.entry import Earlier, SegmentContract, Trigger, TriggerContract, transition_key
from orchestrator.domain.estimate import Estimate, estimate
from orchestrator.domain.gates import Counted
from orchestrator.domain.holdout import Holdout, held_out_by
from orchestrator.domain.journey import AdaptiveBranch, EmitEvent, NbaDecision, UpdateSubject, Webhook
from orchestrator.domain.refusals import FailedPrecondition, Unavailable
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.simulation import Occurs, Profile, Surroundings, World
from orchestrator.domain.subject import BUCKETS
from orchestrator.predicates.facts import Needs, needs
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import facts, replays
from orchestrator.storage.membership_history import STAYS_KEPT

#: What a backtest may take.
BUDGET = timedelta(seconds=8)

#: Backtests at a time.
AT_ONCE = 2

#: Subjects replayed in one go, and of each the newest so many events.
SUBJECTS = 200
EVENTS = 1_000

#: Why a backtest may be wrong, by name.
BIASES: Mapping[str, str] = {
    "attributes": "attributes, lists, preferences and time zones are those of now, not those of then",
    "definitions": "rules of segments, audience, trigger, settings and texts are those of now",
    "reactions": "what subjects did, they did without these messages",
    "deliveries": "every message is taken as sent: what providers would have refused is not known",
    "other_journeys": "other journeys send what they sent; none is held off by what this one would have sent",
    "first_days": "nobody was under way when it began: the first days have fewer messages than later ones would",
    "other_ways_in": "only the trigger lets anybody in: enrolling by hand and by jobs is not replayed",
    "forgotten": "who left a segment more than 90 days ago has been forgotten, with when they came",
    "dates": "the dates between which the journey takes anybody in, and pauses of sends, are not asked",
    "retention": "events that were removed by the project's retention have not happened",
    "many_events": f"of subjects with more than {EVENTS} events only the newest {EVENTS} have happened",
    "webhooks": "no webhook is called: each is taken as answered, without an answer that is kept",
    "effects": "what its steps change and let happen starts no executions",
    "arms": "arms that are learned are those of now, as if nobody had been by any of them before",
    "sample": "only a part of the subjects was looked at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """`tally` is what was counted of `buckets` of all; what that means for all: `scaled`. `version` None: the draft."""

    journey_id: str
    version: int | None
    since: datetime
    until: datetime
    days: int
    buckets: int
    tally: Tally
    entries: Estimate
    sends: Estimate
    biases: tuple[str, ...]

    def scaled(self, counted: int) -> int:
        return round(counted * BUCKETS / self.buckets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """All that every subject is replayed with.

    `names`: of the events that anything asks about; None: of all. `way`: into or out of which segment, where that
    starts the journey.
    """

    plan: Plan
    surroundings: Surroundings
    rules: Mapping[str, Predicate]
    wanted: Needs
    names: Collection[str] | None
    # None: an event starts it
    way: replays.Way | None


class Backtests:
    """One per process."""

    def __init__(self, versions: Versions, *, budget: timedelta = BUDGET) -> None:
        self._versions = versions
        self._grounds = Grounds(versions)
        self._policies = Policies(time_to_live=timedelta(0))
        self._budget = budget
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self, transactions: Transactions, scope: Scope, journey_id: str, days: int) -> Backtest:
        """`days` 0: DAYS. Raises NotFound JOURNEY_NOT_FOUND, FailedPrecondition INVALID_DEFINITION, NOTHING_TO_REPLAY,
        and Unavailable BACKTEST_TOO_SLOW.
        """
        async with self._turns, transactions.snapshot(scope.project_no) as conn:
            ground = await self._grounds.of(conn, scope, journey_id)
            if ground.contract is None:
                raise FailedPrecondition(
                    "NOTHING_TO_REPLAY",
                    f"nothing that happens starts journey {journey_id}: there is nothing to replay",
                    journeyId=journey_id,
                )
            days = days or DAYS
            deadline = time.monotonic() + self._budget.total_seconds()
            frame = await self._frame(conn, scope, ground, ground.contract, days, deadline)
            tallies = await self._replayed(conn, scope.project_no, frame, deadline)
        if not tallies:
            raise Unavailable("BACKTEST_TOO_SLOW", "nobody could be replayed in time; try again")
        total = Tally()
        for tally in tallies:
            total.add(tally)
        return Backtest(
            journey_id=journey_id,
            version=ground.number,
            since=frame.plan.since,
            until=frame.plan.until,
            days=days,
            buckets=len(tallies),
            tally=total,
            entries=estimate([tally.entries.total() for tally in tallies], BUCKETS),
            sends=estimate([tally.sends.total() for tally in tallies], BUCKETS),
            biases=tuple(_biases(ground, total, days, len(tallies))),
        )

    async def _frame(
        self,
        conn: Connection[Record],
        scope: Scope,
        ground: Ground,
        contract: TriggerContract | SegmentContract,
        days: int,
        deadline: float,
    ) -> _Frame:
        settings, version = ground.project.settings, ground.version
        wanted = needs([*ground.prepared.asked, *ground.asked_at_entry])
        rules = await subject_facts.rules_asked(conn, self._versions.rule_book, scope.project_no, wanted)
        wanted |= needs(rules.values())
        names = {one.event_name for one in ground.prepared.happenings.values()}
        way: replays.Way | None = None
        match contract:
            case TriggerContract(event_name=event_name):
                names.add(event_name)
            case SegmentContract(segment_id=segment_id, include_definition_changes=with_definitions):
                causes = ("data", "time", *(("definition",) if with_definitions else ()))
                way = replays.Way(segment_id=segment_id, entered=ground.transition == "entered", causes=causes)
        if ground.goal is not None and ground.goal.event_name is not None:
            names.add(ground.goal.event_name)
        names.update(source.name for source in wanted.events if source.name is not None)
        asks_of_all = any(source.name is None for source in wanted.events)
        # The dates between which it takes anybody in are about the future.
        definition = replace(version.definition, starts_at=None, ends_at=None)
        until = ground.project.now
        return _Frame(
            plan=Plan(
                version=replace(version, definition=definition),
                contract=contract,
                audience=ground.audience,
                since=until - timedelta(days=days),
                until=until,
                held_out=partial(
                    _held_out, settings.global_holdout, definition.holdout, scope.project_id, version.journey_id
                ),
                arms=await arms_of(conn, self._policies, scope, version, None),
                hurry=partial(_in_time, deadline),
            ),
            surroundings=Surroundings(
                time_zone=settings.time_zone,
                quiet=settings.quiet_hours,
                caps=settings.frequency_caps,
                goal=ground.goal,
            ),
            rules=rules,
            wanted=wanted,
            names=None if asks_of_all else names,
            way=way,
        )

    async def _replayed(self, conn: Connection[Record], project_no: int, frame: _Frame, deadline: float) -> list[Tally]:
        """Of each bucket that was done in time."""
        plan = frame.plan
        tallies: list[Tally] = []
        step = 1
        while (first := len(tallies)) < BUCKETS:
            began = time.monotonic()
            last = min(first + step, BUCKETS) - 1
            found = {bucket: Tally() for bucket in range(first, last + 1)}
            try:
                await _hurry(conn, deadline)
                keys = await _moved(conn, project_no, frame, first, last)
                for start in range(0, len(keys), SUBJECTS):
                    await _hurry(conn, deadline)
                    pasts = await _pasts(conn, frame, keys[start : start + SUBJECTS])
                    await in_thread(_replay_all, plan, pasts, found)
            except (QueryCanceledError, _TimeIsUp):
                break
            tallies += found.values()
            if time.monotonic() - began < self._budget.total_seconds() / 16:
                step *= 2
        return tallies


def _held_out(
    of_project: Holdout | None, of_journey: Holdout | None, project_id: str, journey_id: str, subject_id: str
) -> str | None:
    return held_out_by(of_project, of_journey, project_id=project_id, journey_id=journey_id, subject_id=subject_id)


class _TimeIsUp(Exception):
    """The buckets at hand are not done in time."""


def _in_time(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise _TimeIsUp


async def _hurry(conn: Connection[Record], deadline: float) -> None:
    """No statement takes longer than there is time."""
    _in_time(deadline)
    left = deadline - time.monotonic()
    await conn.execute(f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")


def _replay_all(plan: Plan, pasts: Sequence[tuple[int, Past]], tallies: Mapping[int, Tally]) -> None:
    """Each counted in its bucket. Takes a processor as long as it does: for a thread."""
    for bucket, past in pasts:
        plan.hurry()
        replay(plan, past, tallies[bucket])


async def _moved(conn: Connection[Record], project_no: int, frame: _Frame, first: int, last: int) -> list[SubjectKey]:
    """Those of these buckets to whom something happened that could have let them in."""
    plan = frame.plan
    if frame.way is not None:
        return await replays.movers(conn, project_no, first, last, frame.way, plan.since, plan.until)
    assert isinstance(plan.contract, TriggerContract), "a segment that starts a journey has a way"
    name = plan.contract.event_name
    return await replays.subjects(conn, project_no, first, last, name, plan.since, plan.until)


async def _pasts(conn: Connection[Record], frame: _Frame, keys: Sequence[SubjectKey]) -> list[tuple[int, Past]]:
    """What happened to these subjects, each with its bucket."""
    plan, caps = frame.plan, frame.surroundings.caps
    project_no, journey_id = keys[0].project_no, plan.version.journey_id
    known = await facts.load(conn, project_no, keys, replace(frame.wanted, events={}))
    happened = await replays.events(conn, keys, frame.names, plan.until, most=EVENTS)
    earlier = await replays.entries(conn, keys, journey_id, plan.since)
    moved: dict[SubjectKey, list[tuple[datetime, int]]] = {}
    if frame.way is not None:
        moved = await replays.transitions(conn, keys, frame.way, plan.since, plan.until)
    messages: dict[SubjectKey, list[Counted]] = {}
    if caps:
        since = plan.since - max(cap.window for cap in caps)
        messages = await replays.messages(conn, keys, journey_id, since, plan.since)
    pasts = []
    for key in keys:
        one = known.get(key)
        if one is None:  # deleted since
            continue
        events = happened[key]
        profile = Profile(
            subject_id=one.subject_id,
            facts=one.facts,
            consent=one.consent,
            rules=frame.rules,
            messages=tuple(messages.get(key, ())),
        )
        supposed = [Occurs(at=event.occurred_at, name=event.name, properties=event.properties) for event in events]
        past = Past(
            subject_id=one.subject_id,
            consent=one.consent,
            world=World(profile, frame.surroundings, frame.wanted, supposed),
            triggers=_triggers(plan, events, moved.get(key, ())),
            earlier=Earlier.of(earlier[key]),
            cut_short=len(events) == EVENTS,
        )
        pasts.append((key.bucket, past))
    return pasts


def _triggers(
    plan: Plan, events: Sequence[replays.Event], moved: Sequence[tuple[datetime, int]]
) -> list[tuple[Trigger, str | None]]:
    """What could have let a subject in; of transitions, with the key of the entry."""
    match plan.contract:
        case TriggerContract(event_name=event_name):
            return [
                (Trigger(at=event.occurred_at, event_id=event.event_id, properties=event.properties), None)
                for event in events
                if event.name == event_name and event.occurred_at >= plan.since
            ]
        case SegmentContract(segment_id=segment_id):
            return [(Trigger(at=at), transition_key(segment_id, number)) for at, number in moved]


def _biases(ground: Ground, tally: Tally, days: int, buckets: int) -> Collection[str]:
    """Those of BIASES that this one has."""
    has = dict.fromkeys(BIASES)
    if ground.project.settings.event_retention is None:
        del has["retention"]
    if not isinstance(ground.contract, SegmentContract) or days <= STAYS_KEPT.days:
        del has["forgotten"]
    if not tally.cut_short:
        del has["many_events"]
    steps = ground.version.definition.steps.values()
    if not any(isinstance(step, Webhook) for step in steps):
        del has["webhooks"]
    if not any(isinstance(step, UpdateSubject | EmitEvent) for step in steps):
        del has["effects"]
    if not any(isinstance(step, AdaptiveBranch | NbaDecision) for step in steps):
        del has["arms"]
    if buckets == BUCKETS:
        del has["sample"]
    return has
