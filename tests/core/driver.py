"""The application and the workflow in miniature: they follow effects as the real ones do, in memory.

`Application` is application/advance.py, sending.py, calling.py, changing.py and choosing.py over one row; `Workflow` is
workers/workflows: it knows nothing but the last effect, asks again when its timer fires or a poke comes, and never
looks by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from orchestrator.domain import conditions
from orchestrator.domain.advance import Known, advance, first_position
from orchestrator.domain.arm_choice import ArmShare, ChoiceReason
from orchestrator.domain.arms import Chooser, InForce, choose_arm, open_arms
from orchestrator.domain.attributes import merge_patch
from orchestrator.domain.carrying import Landing, carry_over, landing, sent_as
from orchestrator.domain.conditions import happenings, matches
from orchestrator.domain.execution import Decision, Done, Effect, End, Position, Result, Run, Sleep, Visit
from orchestrator.domain.gates import Consent, FrequencyCap, Limits
from orchestrator.domain.journey import (
    AdaptiveBranch,
    AdaptiveStep,
    EmitEvent,
    JourneyVersion,
    NbaDecision,
    Send,
    Stickiness,
    UpdateSubject,
)
from orchestrator.domain.journey_graph import predicates_in
from orchestrator.domain.project import read_sending
from orchestrator.predicates.tree import AllOf
from tests.conformance.worlds import Happened as Counted
from tests.conformance.worlds import World as Asked
from tests.conformance.worlds import facts_for
from tests.core.world import GOAL_EVENT, GOAL_HOURS, Entered, Event, World

#: How long a try waits that was released, or died.
BACK_OFF = timedelta(seconds=7)


#: The arm that holds, and how often one was chosen, by step and for whom it holds: a subject, or an execution.
Held = dict[tuple[str, str], tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Answer:
    seq: int
    effect: Effect


@dataclass(slots=True)
class Row:
    """What the ledgers know of one send, or of one call of a webhook."""

    version: int
    step_id: str
    begun_at: datetime
    channel: str = ""
    category: str = ""
    attempt: int = 1
    state: str = "dispatching"
    in_doubt: bool = True
    reason: str | None = None
    calls: bool = False
    answer: Any = None
    known_as: str = ""

    @property
    def is_out(self) -> bool:
        """Whether it has gone out, as far as anybody knows."""
        return self.state != "failed" or (self.calls and self.in_doubt)


@dataclass(frozen=True, slots=True)
class Reserved:
    seq: int
    attempt: int
    #: whether an earlier try may have gone out
    in_doubt: bool = False


def renamed(step_id: str, mapping: dict[str, str]) -> str:
    """By which name the answer of a step is read after going over."""
    return mapping.get(step_id, step_id)


def _done(row: Row) -> Done:
    if row.state == "failed":
        is_withdrawn = row.calls and row.reason == "withdrawn"
        return Done(result=Result.SKIPPED if is_withdrawn else Result.FAILED, reason=row.reason)
    if row.calls:
        return Done(result=Result.EXECUTED, reason=row.reason)
    return Done(result=Result.EXECUTED, reason="unknown" if row.state == "unknown" else None)


class Application:
    """One execution's row, and what is decided about it."""

    def __init__(self, version: JourneyVersion, world: World, entered: Entered, chosen: Held) -> None:
        """`chosen`: which arms hold, of all executions there have been."""
        self.world = world
        self.chosen = chosen
        self.entered = entered
        self._travel(version)
        #: The version that it goes over to at its next look, and what has become of steps.
        self.carry: tuple[JourneyVersion, dict[str, str]] | None = None
        self.sent_before: frozenset[str] = frozenset()
        self.now = entered.started_at
        self.visits: list[Visit] = []
        self.sends: dict[int, Row] = {}
        self.changes: list[tuple[str, datetime]] = []
        self.told: list[tuple[int, str]] = []
        self.ended: tuple[str, str, datetime] | None = None
        self.parked: str | None = None
        self.asked = 0
        known = self.known()
        self.seq = -1
        at = first_position(version, known, self.now)
        decision = advance(version, at, replace(known, limits=self._limits()), self.now)
        self._write(decision)

    def _travel(self, version: JourneyVersion) -> None:
        self.version = version
        self.goal_event = GOAL_EVENT if version.definition.exit_on_goal else None
        self._predicates = AllOf(clauses=tuple(predicates_in(version.definition)))
        self._happenings = happenings(version.definition)
        self._known: Known | None = None
        self._known_at = -1

    def told_to_go_over(self, version: JourneyVersion, mapping: dict[str, str]) -> bool:
        """Whether it can, where it stands; then it does at its next look."""
        step = self.version.definition.steps[self.position.step_id]
        goes = isinstance(landing(step, version.definition, mapping), Landing)
        if goes:
            self.carry = version, mapping
        return goes

    def known(self) -> Known:
        """As much as the real one loads, read again when something has changed."""
        if self._known is None or self._known_at != self.world.changes:
            self._known, self._known_at = self._read(), self.world.changes
        return self._known

    def _read(self) -> Known:
        world, entered = self.world, self.entered
        events: dict[str, list[Counted]] = {}
        for event in world.events:
            events.setdefault(event.name, []).append(Counted(event.occurred, event.properties))
        asked = Asked(
            attributes=world.attributes,
            entry=entered.properties,
            events=events,
            cohorts=frozenset(name for name, on_it in world.lists.items() if on_it),
            known_cohorts=frozenset(world.lists),
            created_at=world.created_at,
            time_zone=world.zone,
        )
        happened: dict[str, datetime] = {}
        for name, condition in self._happenings.items():
            instants = [
                event.occurred
                for event in world.events
                if event.name == condition.event_name and event.occurred > entered.triggered_at
                if matches(condition, entered.key, event.properties, event.occurred)
            ]
            if instants:
                happened[name] = max(instants)
        start, window = entered.triggered_at, timedelta(hours=GOAL_HOURS)
        return Known(
            subject=replace(facts_for(self._predicates, asked), steps=self.answers),
            consent=Consent(opt_outs=frozenset(world.opted_out), suppressed=frozenset(world.suppressed)),
            started_at=entered.started_at,
            subject_id=entered.subject_id,
            time_zone=world.project_zone,
            happened=happened,
            goal_reached=self.goal_event is not None
            and any(e.name == self.goal_event and start < e.occurred <= start + window for e in world.events),
            closed=world.closed,
        )

    def advance(self, seq: int) -> Answer:
        if self.ended is not None or self.seq > seq:
            return self._decided()
        return self._answer(seq)

    def _decided(self) -> Answer:
        """What was decided at another's asking: of a sleep, that it is over."""
        effect = self.stored.effect
        return (
            replace(self.stored, effect=replace(effect, until=self.now)) if isinstance(effect, Sleep) else self.stored
        )

    def reserve(self, seq: int) -> Reserved | Answer:
        if self.ended is not None or self.seq > seq:
            return self._decided()
        earlier = self.sends.get(seq)
        leaves = self.carry is not None and (earlier is None or (earlier.calls and not earlier.in_doubt))
        if not leaves and (earlier is None or earlier.state == "dispatching"):
            decision = self._decide()
            if isinstance(decision.effect, Run) and decision.still_waiting:
                if earlier is None:
                    self.sends[seq] = self._row(decision.effect.step_id)
                    return Reserved(seq, 1)
                in_doubt = earlier.in_doubt
                earlier.attempt += 1
                earlier.in_doubt = True
                return Reserved(seq, earlier.attempt, in_doubt)
        return self._answer(seq)

    def _row(self, step_id: str) -> Row:
        step = self.version.definition.steps[step_id]
        if not isinstance(step, Send):
            return Row(self.version.version, step_id, self.now, known_as=step_id, calls=True)
        pinned = self.version.pinned[step.communication_id]
        return Row(self.version.version, step_id, self.now, pinned.channel, pinned.category)

    def change(self, seq: int, result: str) -> tuple[Answer, set[str] | None]:
        """Do what the step says, and record it; also what is then told to whoever awaits it, None: it was not done."""
        if self.ended is not None or self.seq > seq:
            return self._decided(), None
        decision = self._decide()
        step = self.version.definition.steps[self.position.step_id]
        is_to_do = isinstance(decision.effect, Run) and decision.still_waiting
        if not is_to_do or self._goes_over:
            return self._answer(seq), None
        if isinstance(step, AdaptiveBranch | NbaDecision):
            return self._record(self._decide(Done(result=Result.EXECUTED, reason=self._choose(step)))), set()
        if result == "failed":
            return self._record(self._decide(Done(result=Result.FAILED, reason="template_value"))), set()
        match step:
            case UpdateSubject(attributes=attributes):
                self.world.attributes = merge_patch(self.world.attributes, attributes)
                topics = {conditions.ATTRIBUTES}
            case EmitEvent(event_name=name, properties=properties):
                self.world.events.append(Event(name=name, occurred=self.now, properties=dict(properties)))
                self.told.append((self.version.version, step.id))
                topics = {conditions.ANY_EVENT, conditions.event_topic(name)}
            case _:
                raise AssertionError(step)
        self.world.changes += 1
        self.changes.append((step.id, self.now))
        return self._record(self._decide(Done(result=Result.EXECUTED))), topics

    def _choose(self, step: AdaptiveStep) -> str:
        """The arm that holds, as application/choosing.py finds it."""
        chooser = Chooser(
            project_id="p",
            journey_id=self.version.journey_id,
            subject_id=self.entered.subject_id,
            entry_key=self.entered.key,
            attributes=self.world.attributes,
        )
        policy, in_force = self.world.policy, None
        if policy is not None:
            shares = tuple(ArmShare(arm_id=arm, ppm=ppm, reason=ChoiceReason.THOMPSON) for arm, ppm in policy.items())
            in_force = InForce(policy_version=1, shares_of=lambda context, opened: shares)
        holds_for = self.entered.subject_id if step.stickiness is Stickiness.SUBJECT else self.entered.execution
        unit = step.id, holds_for
        arm_id, rounds = self.chosen.get(unit, ("", 0))
        if not rounds or arm_id not in open_arms(step):
            arm_id = choose_arm(step, in_force, chooser, rounds).choice.arm_id
            self.chosen[unit] = arm_id, rounds + 1
        return arm_id

    def _answer(self, seq: int) -> Answer:
        earlier = self.sends.get(seq)
        if earlier is not None and earlier.state != "dispatching":
            return self._conclude(_done(earlier))
        if earlier is None and self._goes_over:
            return self._go_over()
        decision = self._decide()
        if earlier is None:
            return self._record(decision)
        is_made = isinstance(decision.effect, Run) and not earlier.calls
        if decision.still_waiting and (is_made or earlier.in_doubt or not self._goes_over):
            return self._record(decision)
        is_unknown = earlier.in_doubt and not earlier.calls
        earlier.state, earlier.reason = ("unknown" if is_unknown else "failed"), "withdrawn"
        done = Done(result=Result.SKIPPED, reason="withdrawn")
        if is_unknown:
            done = Done(result=Result.EXECUTED, reason="unknown")
        if self._goes_over:
            return self._go_over(done)
        if earlier.in_doubt or earlier.calls or not decision.visits:
            decision = self._decide(done)
        return self._record(decision)

    @property
    def _goes_over(self) -> bool:
        return self.carry is not None and self.world.closed is None

    def _conclude(self, done: Done) -> Answer:
        return self._go_over(done) if self._goes_over else self._record(self._decide(done))

    def _go_over(self, done: Done | None = None) -> Answer:
        assert self.carry is not None
        version, (to, mapping) = self.version, self.carry
        landed = landing(version.definition.steps[self.position.step_id], to.definition, mapping)
        assert isinstance(landed, Landing)
        sent = {row.step_id for row in self.sends.values() if row.version == version.version and row.is_out}
        sent |= {step_id for number, step_id in self.told if number == version.version}
        self.sent_before = sent_as(self.sent_before | sent, mapping)
        for row in self.sends.values():
            row.known_as = renamed(row.known_as, mapping)
        self._travel(to)
        self.asked += 1
        decision = carry_over(version, to, self.position, landed, self._all_known(), self.now, done)
        return self._write(self._sound(decision))

    def release(self, reserved: Reserved) -> None:
        row = self.sends[reserved.seq]
        if row.state == "dispatching" and row.attempt == reserved.attempt:
            row.in_doubt = reserved.in_doubt

    @property
    def answers(self) -> dict[str, Any]:
        """What webhooks answered, by what their steps are called now."""
        return {row.known_as: row.answer for row in self.sends.values() if row.answer is not None}

    def settle(self, reserved: Reserved, state: str, reason: str | None, answer: Any = None) -> Answer:
        row = self.sends[reserved.seq]
        current = row.state == "dispatching" and row.attempt == reserved.attempt
        if current:
            row.state, row.reason = state, reason
            row.in_doubt = row.calls and state == "failed" and reserved.in_doubt
            if row.calls and state == "unknown":
                row.reason = "answer_no_object"
            if row.calls and state == "sent" and answer is not None:
                row.answer = answer
                self.world.changes += 1
        if self.ended is not None or self.seq > reserved.seq:
            return self._decided()
        if current or row.state != "dispatching":
            return self._conclude(_done(row))
        return self.stored

    def _decide(self, done: Done | None = None) -> Decision:
        self.asked += 1
        decision = advance(self.version, self.position, self._all_known(), self.now, done)
        return self._sound(decision)

    def _all_known(self) -> Known:
        return replace(self.known(), limits=self._limits(), sent=self.sent_before)

    def _sound(self, decision: Decision) -> Decision:
        if isinstance(decision.effect, Sleep):
            assert decision.effect.until > self.now, "whoever sleeps into the past never sleeps"
        return decision

    def _limits(self) -> Limits:
        """As storage/sends.py finds them."""
        world, settings = self.world, read_sending({"quietHours": self.world.quiet, "frequencyCaps": self.world.caps})
        taken = list(world.elsewhere)
        for seq, row in self.sends.items():
            if not row.calls and seq != self.seq and row.state != "failed":
                taken.append((row.channel, row.category, row.begun_at))
        full: dict[FrequencyCap, datetime] = {}
        for cap in settings["frequency_caps"]:
            counted = sorted(at for channel, category, at in taken if cap.is_about(channel, category))
            if len(counted) >= cap.limit:
                full[cap] = counted[-cap.limit] + cap.window
        return Limits(paused=world.paused, quiet=settings["quiet_hours"], full=full, crowded=frozenset(world.crowded))

    def _topics(self, decision: Decision) -> frozenset[str]:
        step = self.version.definition.steps[decision.position.step_id]
        sleeps = not isinstance(decision.effect, Run)
        return conditions.topics(self.version.definition, step, self.goal_event, sleeps=sleeps)

    def _record(self, decision: Decision) -> Answer:
        if decision.still_waiting:
            self.parked = decision.effect.parked if isinstance(decision.effect, Sleep) else None
            self.awaits = self._topics(decision)
            return Answer(self.seq, decision.effect)
        return self._write(decision)

    def _write(self, decision: Decision) -> Answer:
        self.seq += 1
        self.carry = None
        effect = decision.effect
        self.position: Position = decision.position
        self.visits += decision.visits
        self.stored = Answer(self.seq, effect)
        self.parked = effect.parked if isinstance(effect, Sleep) else None
        self.awaits = frozenset[str]()
        if isinstance(effect, End):
            self.ended = (effect.outcome.value, effect.reason, self.now)
        else:
            self.awaits = self._topics(decision)
        return self.stored


@dataclass(slots=True)
class Flight:
    """A try that is on its way: the `number`-th of the `send`-th send."""

    send: int
    number: int
    reserved: Reserved


@dataclass(slots=True)
class Workflow:
    """Follows effects. Some answers are lost, and asked again.

    `tried` is called whenever a worker takes up a send, or a call; `changed` when it takes up a step that changes the
    subject, and says whether that is to be done, and `did` with what it came to.
    """

    app: Application
    random: Random
    lose: float
    tried: Callable[[], None]
    changed: Callable[[], bool]
    did: Callable[[str], None]
    pokes: int = 0
    seen: int = 0
    pokes_at_run: int = 0
    answer: Answer = field(init=False)
    #: A question that has not been answered yet, and the pokes there were when it was asked.
    asking: tuple[int, int] | None = None
    flight: Flight | None = None
    dead: list[Flight] = field(default_factory=list)
    retry_at: datetime | None = None
    hurried: bool = False
    lost: int = 0

    def __post_init__(self) -> None:
        self.answer = self.app.stored

    @property
    def wakes_at(self) -> datetime | None:
        """When it does something by itself."""
        if isinstance(self.answer.effect, Sleep):
            return self.answer.effect.until
        return self.retry_at

    def poke(self) -> None:
        self.pokes += 1
        if self.flight is not None:
            self.hurried = True
        elif self.retry_at is not None:  # cuts the back-off short
            self.retry_at = self.app.now
        self.go_on()

    def go_on(self) -> None:
        """Do all that can be done now, but for what has been lost on the way: that comes with the next call."""
        for _ in range(1000):
            if self.asking is not None:
                seq, pokes = self.asking
                self._ask(seq, pokes)
                if self.asking is not None:
                    return
            match self.answer.effect:
                case End():
                    return
                case Sleep(until=until):
                    if self.pokes == self.seen and self.app.now < until:
                        return
                    self.asking = (self.answer.seq, self.pokes)
                case Run():
                    if self.flight is not None or (self.retry_at is not None and self.app.now < self.retry_at):
                        return
                    self._try()
        raise AssertionError("it asks and asks")

    def flush(self) -> None:
        """Before time passes, whatever was lost has been asked for again."""
        while self.asking is not None:
            self.go_on()

    def pass_time(self, to: datetime, *, inclusive: bool = True) -> None:
        self.flush()
        while (wakes := self.wakes_at) is not None and not isinstance(self.answer.effect, End):
            if wakes > to or (wakes == to and not inclusive):
                break
            self.app.now = max(self.app.now, wakes)
            self.go_on()
            self.flush()
        self.app.now = max(self.app.now, to)

    def land(self, result: str, said: Any = None) -> None:
        """What the provider said, or that nobody will ever know."""
        flight = self.flight
        assert flight is not None
        self.flight = None
        match result:
            case "released" | "crashed":
                if result == "released":
                    self.app.release(flight.reserved)
                else:
                    self.dead.append(flight)
                self.retry_at = self.app.now if self.hurried else self.app.now + BACK_OFF
                self.hurried = False
            case _:
                answer = self._settled(flight, result, said)
                self.hurried = False
                if self.random.random() < self.lose:  # told nobody: the activity is run again
                    self.lost += 1
                    self.retry_at = self.app.now
                else:
                    self._take(answer, self.pokes_at_run)
        self.go_on()

    def late(self, flight: Flight, result: str, said: Any = None) -> None:
        """A worker that was given up on comes back with an answer."""
        before, sleeps = self.app.seq, self.app.parked is not None
        self._settled(flight, result, said)
        if sleeps and self.app.seq != before:
            self.poke()
            self.flush()
        elif self.app.seq != before and self.retry_at is not None:
            self.retry_at = self.app.now
            self.go_on()

    def _settled(self, flight: Flight, result: str, said: Any) -> Answer:
        return self.app.settle(flight.reserved, result, "refused" if result == "failed" else None, said)

    def _change(self) -> None:
        self.retry_at, self.hurried = None, False
        result = "failed" if self.random.random() < 0.1 else "executed"
        is_new = self.app.ended is None and self.app.seq == self.answer.seq
        is_to_be_done = is_new and self.changed()
        answer, topics = self.app.change(self.answer.seq, result)
        if topics is not None and is_to_be_done:
            self.did(result)
        if topics is not None and self.app.awaits & topics:
            self.pokes += 1
        if self.random.random() < self.lose:
            self.lost += 1
            self.retry_at = self.app.now
        else:
            self._take(answer, self.pokes_at_run)

    def _try(self) -> None:
        effect = self.answer.effect
        if isinstance(effect, Run) and effect.activity in ("update_subject", "emit_event", "choose_arm"):
            self._change()
            return
        self.retry_at, self.hurried = None, False
        if self.app.ended is None and self.app.seq == self.answer.seq:
            self.tried()
        got = self.app.reserve(self.answer.seq)
        if isinstance(got, Reserved):
            self.flight = Flight(len(self.app.sends), got.attempt, got)
        elif self.random.random() < self.lose:
            self.lost += 1
            self.retry_at = self.app.now
        else:
            self._take(got, self.pokes_at_run)

    def _ask(self, seq: int, pokes: int) -> None:
        answer = self.app.advance(seq)
        if self.random.random() < self.lose:
            self.lost += 1
            return
        self._take(answer, pokes)

    def _take(self, answer: Answer, seen: int) -> None:
        while isinstance(answer.effect, Sleep) and answer.effect.until <= self.app.now:  # over already: it asks at once
            answer, seen = self.app.advance(answer.seq), self.pokes
        self.asking, self.retry_at = None, None
        self.seen, self.pokes_at_run = seen, self.pokes
        self.answer = answer
