"""What a journey would have done lately: the past of subjects, one after the other, travelled by the core.

Pure: what happened is an argument. Whoever is refused, let in, sent something or stopped is counted by the day on which
it would have been.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import partial
from itertools import count

from orchestrator.domain.advance import Known
from orchestrator.domain.arms import Arms
from orchestrator.domain.conditions import Entry
from orchestrator.domain.entry import (
    Earlier,
    Gone,
    SegmentContract,
    Trigger,
    TriggerContract,
    entry_key,
    refuse_subject,
    refuse_transition,
    refuse_trigger,
)
from orchestrator.domain.execution import Done, End, Result, Run, Sleep, Why
from orchestrator.domain.gates import FREQUENCY_CAP, Consent
from orchestrator.domain.journey import (
    AdaptiveBranch,
    EmitEvent,
    JourneyVersion,
    NbaDecision,
    Pinned,
    Send,
    UpdateSubject,
    Webhook,
)
from orchestrator.domain.simulation import Came, Look, Traveler, World
from orchestrator.domain.supposed_effects import chooser_of, suppose
from orchestrator.predicates.tree import Predicate

DAY = timedelta(days=1)

#: How far back, at most, and where nothing is said: whole weeks.
MAX_DAYS, DAYS = 365, 28

#: Kinds of steps whose visits say by which way they were left.
FORKS = ("branch", "split", "adaptive_branch", "nba_decision", "wait_for")

#: Looks of one execution. Who is parked looks every quarter of an hour, and is as good as parked after so many.
MAX_LOOKS = 1_000


@dataclass(slots=True)
class Tally:
    """What was counted. Days count from the start of the backtest.

    `capped` are sends that a cap stood against, whatever became of them; `stopped` are those that any gate kept from
    being made, by its reason; `ways` by step and arm, or what its visit says instead. `cut_short`: subjects of whose
    past only the end is known.
    """

    subjects: int = 0
    entries: Counter[int] = field(default_factory=Counter)
    held_out: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    sends: Counter[tuple[int, str]] = field(default_factory=Counter)
    capped: Counter[tuple[int, str]] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)
    ways: Counter[tuple[str, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    cut_short: int = 0

    def add(self, other: Tally) -> None:
        """Count all of that, too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is held against the past from `since` to `until`.

    `held_out` says whom a holdout has, by subject id; `arms` by what is chosen. `hurry` is called before every look,
    and may raise.
    """

    version: JourneyVersion
    contract: TriggerContract | SegmentContract
    audience: Predicate | Gone | None
    since: datetime
    until: datetime
    held_out: Callable[[str], str | None]
    arms: Arms
    hurry: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One subject's: its world, in which all of its events are supposed; what may have let it in, in the order in which
    it happened, of transitions each with the entry's key; and its entries from before."""

    subject_id: str
    consent: Consent
    world: World
    triggers: Sequence[tuple[Trigger, str | None]]
    earlier: Earlier
    cut_short: bool = False


def replay(plan: Plan, past: Past, tally: Tally) -> None:
    """Let the subject in by each event that would have let it in, and see how far it would have come."""
    tally.subjects += 1
    tally.cut_short += past.cut_short
    travels = _Travels(plan, past.world, tally)
    for trigger, given in past.triggers:
        travels.go_on(trigger.at)
        key = _enters(plan, past, trigger, given, tally)
        if key is None:
            continue
        past.earlier.add(key, trigger.at)
        tally.entries[(trigger.at - plan.since) // DAY] += 1
        if plan.held_out(past.subject_id) is not None:
            tally.held_out += 1
        else:
            travels.begin(
                Came(entry=Entry(key=key, at=trigger.at), properties=trigger.properties, started_at=trigger.at)
            )
    travels.go_on(plan.until)
    travels.leave()


def _enters(plan: Plan, past: Past, trigger: Trigger, given: str | None, tally: Tally) -> str | None:
    """The key of the entry; None, and counted, if a gate refuses it."""
    at, facts = trigger.at, past.world.facts(trigger.at)
    match plan.contract:
        case TriggerContract() as contract:
            refusal, key = refuse_trigger(contract, trigger, at), entry_key(contract, trigger)
        case SegmentContract() as contract:
            refusal, key = refuse_transition(contract, facts, at), given
    if refusal is None and key is not None:
        refusal = refuse_subject(plan.version, plan.audience, trigger, key, facts, past.consent, past.earlier, at)
    if refusal is not None:
        tally.refused[refusal.value] += 1
        return None
    return key


@dataclass(slots=True)
class _Travel:
    """An execution. `held` has the steps on which a cap holds off a send already counted."""

    traveler: Traveler
    looks: int = 0
    held: set[str] = field(default_factory=set)


class _Travels:
    """The executions of one subject, each of which looks when its time has come: so they meet the same caps."""

    def __init__(self, plan: Plan, world: World, tally: Tally) -> None:
        self._plan = plan
        self._world = world
        self._tally = tally
        self._order = count()
        self._coming: list[tuple[datetime, int, _Travel]] = []

    def begin(self, came: Came) -> None:
        traveler = Traveler(self._plan.version, self._world, came, partial(self._carry_out, came.entry.key))
        heapq.heappush(self._coming, (came.started_at, next(self._order), _Travel(traveler)))

    def go_on(self, until: datetime) -> None:
        """Everything that is decided before then."""
        while self._coming and self._coming[0][0] < until:
            self._plan.hurry()
            _, number, travel = heapq.heappop(self._coming)
            self._count(travel, travel.traveler.look())
            travel.looks += 1
            at = travel.traveler.looks_at
            if at is not None:
                heapq.heappush(self._coming, (at if travel.looks < MAX_LOOKS else self._plan.until, number, travel))

    def leave(self) -> None:
        """Who has not ended is under way."""
        self._tally.under_way += len(self._coming)

    def _carry_out(self, entry_key: str, run: Run, known: Known, now: datetime) -> Done:
        """A message is taken as sent, and a webhook as answered; what they say is nobody's business here."""
        step = self._plan.version.definition.steps[run.step_id]
        match step:
            case UpdateSubject() | EmitEvent():
                supposed = suppose(step, known, now, self._plan.hurry)
                if supposed.happening is not None:
                    self._world.suppose(supposed.happening)
                    self._wake(now)
                return supposed.done
            case Webhook():
                return Done(result=Result.EXECUTED)
            case AdaptiveBranch() | NbaDecision():
                arms, journey_id = self._plan.arms, self._plan.version.journey_id
                arm_id, _ = arms.choose(step, chooser_of(arms, journey_id, known, entry_key))
                return Done(result=Result.EXECUTED, reason=arm_id)
            case _:
                pinned = self._pinned(run.step_id)
                self._world.sent(pinned.channel, pinned.category, now)
                self._tally.sends[self._day(now), pinned.channel] += 1
                return Done(result=Result.EXECUTED)

    def _wake(self, now: datetime) -> None:
        """The subject's other executions look, too."""
        for place, (at, number, travel) in enumerate(self._coming):
            if travel.looks < MAX_LOOKS:
                travel.traveler.wake(now)
                self._coming[place] = min(at, now), number, travel
        heapq.heapify(self._coming)

    def _count(self, travel: _Travel, look: Look) -> None:
        tally = self._tally
        for visit in look.decision.visits:
            if visit.result is Result.SKIPPED and visit.step_kind == "send" and visit.reason is not None:
                tally.stopped[visit.reason] += 1
                if visit.reason == FREQUENCY_CAP:
                    self._cap(travel, visit.step_id, look.at)
            elif visit.step_kind in FORKS and visit.reason is not None:
                tally.ways[visit.step_id, visit.reason] += 1
        match look.decision.effect:
            case Sleep(step_id=step_id, why=Why.GATE, parked=reason) if reason == FREQUENCY_CAP:
                self._cap(travel, step_id, look.at)
            case End(outcome=outcome):
                tally.outcomes[outcome.value] += 1
            case _:
                pass

    def _cap(self, travel: _Travel, step_id: str, now: datetime) -> None:
        if step_id not in travel.held:
            travel.held.add(step_id)
            self._tally.capped[self._day(now), self._pinned(step_id).channel] += 1

    def _pinned(self, step_id: str) -> Pinned:
        step = self._plan.version.definition.steps[step_id]
        assert isinstance(step, Send), "nothing else is a message"
        return self._plan.version.pinned[step.communication_id]

    def _day(self, now: datetime) -> int:
        return (now - self._plan.since) // DAY
