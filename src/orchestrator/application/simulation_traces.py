"""What a simulated execution does, step by step, with the evidence: made of its looks, and bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import count
from typing import Any

from orchestrator.application.condition_truths import Asking, Truth, truth_of
from orchestrator.application.simulation_work import Choice, Content, Deed, StandIn, TimeIsUp
from orchestrator.domain.advance import Known, step_kind
from orchestrator.domain.arms import Arms
from orchestrator.domain.execution import Done, End, Outcome, Position, Result, Run, Sleep, Visit, Why
from orchestrator.domain.journey import (
    Branch,
    Changed,
    Condition,
    Happened,
    JourneyVersion,
    Split,
    Step,
    WaitFor,
)
from orchestrator.domain.simulation import Came, Look, Traveler, World
from orchestrator.predicates.reveal import Reveal
from orchestrator.predicates.tree import Predicate, leaves

#: Looks of one execution. Who is parked looks every quarter of an hour.
MAX_LOOKS = 5_000
#: Virtual time. Ten looks of somebody who waits for ever.
HORIZON = timedelta(days=3_660)
#: Of a processor, and perhaps of somebody who waits for the answer.
MAX_SECONDS = 5.0
#: Bytes of rendered texts, and leaves of predicates that evidence is shown for: as much as fits into an answer.
MAX_TEXTS = 1024 * 1024
MAX_LEAVES = 5_000


class Stop(Enum):
    """Why a simulation goes no further."""

    ENDED = "ended"
    NOT_ENTERED = "not_entered"
    HELD_OUT = "held_out"
    # nothing but time would pass, until beyond HORIZON
    WAITS = "waits"
    # it was cut off, after so many looks or so long
    LOOKS = "looks"
    SECONDS = "seconds"


class Cut(Enum):
    """What is left out of a trace, which would be too large with it."""

    TEXTS = "texts"
    EVIDENCE = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept:
    """It slept there since then, and looked at `until`, or before when something happened."""

    since: datetime
    until: datetime
    why: Why
    parked: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A step that was come to. `result` and `left_at` None: it stands there when the simulation stops.

    `share`: of those who come to a split, the part that takes the same arm; so of a step whose arms learn.
    """

    step_id: str
    step_kind: str
    entered_at: datetime
    left_at: datetime | None = None
    result: Result | None = None
    reason: str | None = None
    sleeps: tuple[Slept, ...] = ()
    conditions: tuple[Truth, ...] = ()
    carried_out: Deed | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """`at` is when it ended, or how far the simulation came. `left_for`: the exit rule it left by."""

    steps: tuple[Passed, ...]
    stop: Stop
    at: datetime
    outcome: Outcome | None = None
    reason: str = ""
    left_for: Truth | None = None
    cuts: frozenset[Cut] = frozenset()


class Traces:
    """Makes one trace. Takes a processor as long as it does: for a thread."""

    def __init__(
        self,
        version: JourneyVersion,
        world: World,
        contents: Mapping[str, Content],
        inlined: Mapping[int, Predicate],
        answers: Mapping[str, Mapping[str, Any]],
        arms: Arms,
        *,
        reveal: Reveal | None,
    ) -> None:
        """`contents` by communication; `answers` of webhooks, by step. `reveal`: which values are shown, in evidence
        and in texts; None: all.
        """
        self._version = version
        self._world = world
        self._inlined = inlined
        self._answers = answers
        self._reveal = reveal
        self._workers = StandIn(version, world, contents, answers, arms, room=MAX_TEXTS, reveal=reveal)
        self._steps: list[Passed] = []
        self._sleeps: list[Slept] = []
        self._cuts: set[Cut] = set()
        self._leaves_left = MAX_LEAVES

    def trace(self, came: Came, *, late: timedelta = timedelta(0)) -> Trace:
        """`late`: domain/simulation.py, Traveler."""
        deadline = time.monotonic() + MAX_SECONDS

        def carry_out(run: Run, known: Known, now: datetime) -> Done:
            return self._workers.carry_out(run, known, now, came.entry.key, deadline)

        horizon = came.started_at + HORIZON
        traveler = Traveler(self._version, self._world, came, carry_out, answers=self._answers, late=late)
        last: Look | None = None
        for looks in count(1):
            try:
                look = traveler.look()
            except TimeIsUp:  # while a step was carried out, on which it stands
                assert last is not None, "a look before told it to"
                self._stands(last.decision.position)
                return self._told(Stop.SECONDS, last.at)
            last = look
            self._note(look)
            effect = look.decision.effect
            if isinstance(effect, End):
                return self._ended(look, effect)
            stop = None
            if isinstance(effect, Sleep) and min(effect.until, self._world.next_after(look.at) or horizon) >= horizon:
                stop = Stop.WAITS
            elif looks >= MAX_LOOKS:
                stop = Stop.LOOKS
            elif time.monotonic() >= deadline:
                stop = Stop.SECONDS
            if stop is not None:
                self._stands(look.decision.position)
                return self._told(stop, look.at)
        raise AssertionError("it counts without end")

    def _note(self, look: Look) -> None:
        """What is to be told of one look."""
        for visit in look.decision.visits:
            stood = look.position
            if visit.step_id != stood.step_id:
                stood = Position(step_id=visit.step_id, since=visit.entered_at)
            self._pass(look, visit, stood)
        effect = look.decision.effect
        if isinstance(effect, Sleep):
            slept = Slept(since=look.at, until=effect.until, why=effect.why, parked=effect.parked)
            last = self._sleeps[-1] if self._sleeps else None
            if last is not None and (last.why, last.parked) == (slept.why, slept.parked):
                self._sleeps[-1] = replace(last, until=slept.until)
            else:
                self._sleeps.append(slept)

    def _pass(self, look: Look, visit: Visit, stood: Position) -> None:
        step = self._version.definition.steps[visit.step_id]
        sleeps, self._sleeps = self._sleeps, []
        asked = list(_asked_by(step, visit))
        deed = self._workers.take(visit.step_id)
        self._steps.append(
            Passed(
                step_id=visit.step_id,
                step_kind=visit.step_kind,
                entered_at=visit.entered_at,
                left_at=visit.left_at,
                result=visit.result,
                reason=visit.reason,
                sleeps=tuple(sleeps),
                conditions=tuple(self._truth(look, stood, "", arm_id, condition) for arm_id, condition in asked),
                carried_out=deed,
                share=deed.share if isinstance(deed, Choice) else _share(step, visit),
            )
        )

    def _truth(self, look: Look, stood: Position, rule_id: str, arm_id: str, condition: Condition) -> Truth:
        explains = isinstance(condition, Happened | Changed) or self._has_room_for(condition)
        asking = Asking(
            known=look.known,
            facts=look.known.subject,
            position=stood,
            now=look.at,
            inlined=self._inlined,
            reveal=self._reveal,
            explains=explains,
        )
        return truth_of(asking, rule_id, arm_id, condition)

    def _has_room_for(self, predicate: Predicate) -> bool:
        size = sum(1 for _ in leaves(self._inlined.get(id(predicate), predicate)))
        if size > self._leaves_left:
            self._cuts.add(Cut.EVIDENCE)
            return False
        self._leaves_left -= size
        return True

    def _stands(self, position: Position) -> None:
        step = self._version.definition.steps[position.step_id]
        self._steps.append(
            Passed(step_id=step.id, step_kind=step_kind(step), entered_at=position.since, sleeps=tuple(self._sleeps))
        )

    def _ended(self, look: Look, end: End) -> Trace:
        position = look.decision.position
        if not self._steps or self._steps[-1].step_id != position.step_id:  # it leaves where it stands
            self._stands(position)
        rules = {rule.id: rule.condition for rule in self._version.definition.exit_rules}
        left_for: Truth | None = None
        if end.outcome is Outcome.EXITED and end.reason in rules:
            left_for = self._truth(look, position, end.reason, "", rules[end.reason])
        told = self._told(Stop.ENDED, look.at)
        return replace(told, outcome=end.outcome, reason=end.reason, left_for=left_for)

    def _told(self, stop: Stop, at: datetime) -> Trace:
        if self._workers.left_out:
            self._cuts.add(Cut.TEXTS)
        return Trace(steps=tuple(self._steps), stop=stop, at=at, cuts=frozenset(self._cuts))


def _asked_by(step: Step, visit: Visit) -> Iterator[tuple[str, Condition]]:
    """(arm, condition): what was asked on the way through a step, in its order."""
    if isinstance(step, WaitFor):
        yield "", step.condition
    elif isinstance(step, Branch):
        for arm in step.arms:
            yield arm.id, arm.when
            if arm.id == visit.reason:
                return


def _share(step: Step, visit: Visit) -> float | None:
    if not isinstance(step, Split):
        return None
    total = sum(arm.weight for arm in step.arms)
    return next(arm.weight / total for arm in step.arms if arm.id == visit.reason)
