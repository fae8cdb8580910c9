"""Given where an execution stands and what is known, decide what happens next.

No clock, no I/O: the worker, the simulator and the tests all call this one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never
from zoneinfo import ZoneInfo

from orchestrator.domain.conditions import flip, holds, mark_of, rule_name, step_name
from orchestrator.domain.execution import Decision, Done, Effect, End, Outcome, Position, Result, Run, Sleep, Visit, Why
from orchestrator.domain.gates import CHANNEL_RATE, SENDS_PAUSED, USUAL, Blocked, Consent, Limits
from orchestrator.domain.journey import (
    AdaptiveBranch,
    AdaptiveStep,
    AttributeDate,
    Branch,
    Changed,
    Condition,
    EmitEvent,
    Exit,
    JourneyVersion,
    NbaDecision,
    OnBlocked,
    Send,
    Split,
    Step,
    TimeOfDay,
    UpdateSubject,
    Wait,
    WaitFor,
    WaitUntil,
    Webhook,
)
from orchestrator.domain.local_time import attribute_date, next_time_of_day
from orchestrator.domain.split import arm_of
from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.paths import find

#: One try at a provider, all in: rendering, connecting, the answer, and both transactions around it.
SEND_TIMEOUT = timedelta(seconds=30)

#: One try at changing what we know of a subject ourselves.
CHANGE_TIMEOUT = timedelta(seconds=30)

#: What chooses an arm by what was learned, and one try at it.
CHOOSE_ARM = "choose_arm"
CHOICE_TIMEOUT = timedelta(seconds=30)

#: What a try at a webhook takes besides waiting for its answer.
AROUND_A_CALL = timedelta(seconds=20)

#: How often a parked execution looks again by itself; what parked it also pokes it when it is mended.
PARK_RECHECK = timedelta(minutes=15)

#: The same of one whose send is held: there may be a million of them, and resuming sends, or its turn, pokes every one.
HOLD_RECHECK = timedelta(hours=6)

#: How long an execution sleeps at most, whatever it waits for. Then it looks, and sleeps again.
LONGEST_SLEEP = timedelta(days=365)

#: What a `wait_for` step's visit records.
CAME, TIMEOUT = "came", "timeout"
#: Why a wait for a date was passed over.
NO_DATE = "no_date"
#: Why a step that sends something was: that went out before the execution went over to this version.
ALREADY_SENT = "already_sent"

#: What sends something that leaves us, or that others are told of. Done twice, it is twice there.
SENDING = (Send, Webhook, EmitEvent)

GOAL = "goal"
JOURNEY_ARCHIVED = "journey_archived"
JOURNEY_DELETED = "journey_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What `advance` may ask about one execution, all read in one snapshot.

    `closed` says why it is to be ended from outside (None: it is not). `time_zone` is the project's, for
    subjects without one. `happened` has, by the name that `conditions.happenings` gives to it, when the newest event
    occurred that counts for a condition, later than the entry; what never happened is missing. `goal_reached`: an event
    of the goal that the enrollment is measured by has come within its window. `sent`: the steps whose messages, calls
    and events it sent before it went over to this version.
    """

    subject: Facts
    consent: Consent
    limits: Limits = field(default_factory=Limits)
    started_at: datetime
    subject_id: str = ""
    time_zone: str = "UTC"
    happened: Mapping[str, datetime] = field(default_factory=dict)
    goal_reached: bool = False
    closed: str | None = None
    sent: frozenset[str] = frozenset()

    @property
    def zone(self) -> ZoneInfo:
        """Where the subject's clock is."""
        return ZoneInfo(self.subject.time_zone or self.time_zone)


def step_kind(step: Step) -> str:
    """The name of a step's kind, as authors write it."""
    match step:
        case Send():
            return "send"
        case Wait() | WaitUntil():
            return "wait"
        case WaitFor():
            return "wait_for"
        case Branch():
            return "branch"
        case Split():
            return "split"
        case AdaptiveBranch():
            return "adaptive_branch"
        case NbaDecision():
            return "nba_decision"
        case UpdateSubject():
            return "update_subject"
        case EmitEvent():
            return "emit_event"
        case Webhook():
            return "webhook"
        case Exit():
            return "exit"
        case _:
            assert_never(step)


def advance(
    version: JourneyVersion, position: Position, known: Known, now: datetime, done: Done | None = None
) -> Decision:
    """Walk on from `position` until a step needs the world or time.

    `done` is what came of the `Run` this execution was told to do last, if it was. Asking again with nothing changed
    gives the same effect (but for the next look of a parked one): a wake-up too many does no harm.
    """
    visits: list[Visit] = []
    steps = version.definition.steps
    lifetime = version.definition.max_duration
    expires_at = known.started_at + lifetime if lifetime is not None else None

    def decide(effect: Effect) -> Decision:
        return Decision(position=position, effect=effect, visits=tuple(visits))

    def visit(step: Step, result: Result, reason: str | None = None) -> None:
        visits.append(
            Visit(
                step_id=step.id,
                step_kind=step_kind(step),
                result=result,
                reason=reason,
                entered_at=position.since,
                left_at=now,
            )
        )

    def sleep(step: Step, until: datetime | None, why: Why, parked: str | None = None) -> Decision:
        """Until then, or until time alone could end the execution earlier; None: until something happens."""
        longest = now + LONGEST_SLEEP
        instants = [min(until, longest) if until is not None else longest]
        if expires_at is not None:
            instants.append(expires_at)
        turning: list[Condition] = [rule.condition for rule in version.definition.exit_rules]
        if isinstance(step, Branch):  # parked by one arm, it still takes an earlier one that comes to hold
            turning += [arm.when for arm in step.arms]
        for condition in turning:
            if (turn := flip(condition, known.subject, now)) is not None:
                instants.append(turn)
        return decide(Sleep(until=min(instants), step_id=step.id, why=why, parked=parked))

    def park(step: Step, missing: Missing) -> Decision:
        return sleep(step, now + PARK_RECHECK, Why.PARK, missing.reason)

    def come_to(step_id: str) -> Position:
        return arrive(version, step_id, known, now)

    while True:
        step = steps[position.step_id]
        if done is None:  # what was done is recorded before anything may end
            if known.closed is not None:
                return decide(End(outcome=Outcome.CANCELED, reason=known.closed))
            if not isinstance(step, Exit):
                if known.goal_reached and version.definition.exit_on_goal:
                    return decide(End(outcome=Outcome.GOAL_REACHED, reason=GOAL))
                expired = expires_at is not None and now >= expires_at
                try:
                    left = leaves_by(version, known, now)
                except Missing as missing:
                    if not expired:  # nobody is parked for longer than they may live
                        return park(step, missing)
                    left = None
                if left is not None:
                    return decide(End(outcome=Outcome.EXITED, reason=left))
                if expired:
                    return decide(End(outcome=Outcome.EXPIRED, reason="max_duration"))
        match step:
            case Send() | Webhook() | EmitEvent() if done is None and step.id in known.sent:
                visit(step, Result.SKIPPED, ALREADY_SENT)
                position = come_to(step.next)
            case Send():
                if done is None:
                    blocked = blocks(version, step, known, now)
                    if blocked is None:
                        channel = version.pinned[step.communication_id].channel
                        return decide(Run(activity="send", step_id=step.id, channel=channel, timeout=SEND_TIMEOUT))
                    if blocked.reason == SENDS_PAUSED:
                        return sleep(step, now + HOLD_RECHECK, Why.PARK, SENDS_PAUSED)
                    if blocked.reason == CHANNEL_RATE:  # its turn comes, whatever the author wants of gates
                        return sleep(step, now + HOLD_RECHECK, Why.GATE, CHANNEL_RATE)
                    policy = step.on_blocked or USUAL[blocked.reason]
                    over = position.since + step.wait_at_most if step.wait_at_most is not None else None
                    if policy is OnBlocked.WAIT and (over is None or now < over):
                        opens = min(filter(None, (blocked.opens, over)), default=None)
                        return sleep(step, opens, Why.GATE, blocked.reason)
                    visit(step, Result.SKIPPED, blocked.reason)
                    if policy is OnBlocked.EXIT:
                        return decide(End(outcome=Outcome.EXITED, reason=blocked.reason))
                else:
                    visit(step, done.result, done.reason)
                    done = None
                position = come_to(step.next)
            case Wait():
                due = position.since + step.duration
                if now < due:
                    return sleep(step, due, Why.WAIT)
                visit(step, Result.EXECUTED)
                position = come_to(step.next)
            case WaitUntil():
                until = wait_over(step, known, position.since)
                if until is not None and now < until:
                    return sleep(step, until, Why.WAIT)
                visit(step, Result.EXECUTED if until is not None else Result.SKIPPED, None if until else NO_DATE)
                position = come_to(step.next)
            case WaitFor():
                over = position.since + step.timeout if step.timeout is not None else None
                last = known.happened.get(step_name(step.id))
                try:
                    came = holds(step.condition, known.subject, last, position.since, position.mark, now)
                except Missing as missing:
                    return park(step, missing)
                if not came and (over is None or now < over):
                    turn = flip(step.condition, known.subject, now)
                    return sleep(step, min(filter(None, (over, turn)), default=None), Why.WAIT_FOR)
                visit(step, Result.EXECUTED, CAME if came else TIMEOUT)
                position = come_to(step.next if came else step.otherwise)
            case Branch():
                try:
                    taken = next((arm for arm in step.arms if evaluate(arm.when, known.subject, now)), None)
                except Missing as missing:
                    return park(step, missing)
                visit(step, Result.EXECUTED, taken.id if taken else "otherwise")
                position = come_to(taken.next if taken else step.otherwise)
            case Split():
                arm = arm_of(step, version.journey_id, known.subject_id)
                visit(step, Result.EXECUTED, arm.id)
                position = come_to(arm.next)
            case AdaptiveBranch() | NbaDecision():
                if done is None:
                    return decide(Run(activity=CHOOSE_ARM, step_id=step.id, timeout=CHOICE_TIMEOUT))
                visit(step, done.result, done.reason)
                position = come_to(way_on(step, done))
                done = None
            case UpdateSubject() | EmitEvent() | Webhook():
                if done is None:
                    timeout = step.timeout + AROUND_A_CALL if isinstance(step, Webhook) else CHANGE_TIMEOUT
                    return decide(Run(activity=step_kind(step), step_id=step.id, timeout=timeout))
                visit(step, done.result, done.reason)
                position = come_to(way_on(step, done))
                done = None
            case Exit():
                visit(step, Result.EXECUTED)
                return decide(End(outcome=Outcome.COMPLETED, reason=step.reason))
            case _:
                assert_never(step)


def way_on(step: Send | UpdateSubject | EmitEvent | Webhook | AdaptiveStep, done: Done) -> str:
    """Where one goes who has done the step. A webhook that was not taken may lead elsewhere; the arm that was chosen is
    what is told of the choice.
    """
    if isinstance(step, AdaptiveBranch | NbaDecision):
        taken = next((arm for arm in step.arms if arm.id == done.reason), None)
        assert taken is not None, "it was chosen among the arms of this version"
        return taken.next
    if isinstance(step, Webhook) and done.result is not Result.EXECUTED:
        return step.otherwise or step.next
    return step.next


def first_position(version: JourneyVersion, known: Known, now: datetime) -> Position:
    """Where an execution begins."""
    return arrive(version, version.definition.first_step_id, known, now)


def blocks(version: JourneyVersion, step: Send, known: Known, now: datetime) -> Blocked | None:
    """The first gate that stands against this send; None when it may be made."""
    pinned = version.pinned[step.communication_id]
    refused = known.consent.blocks(pinned.channel, pinned.category)
    if refused is not None:
        return Blocked(reason=refused)
    window = step.window or version.definition.send_window
    return known.limits.blocks(pinned.channel, pinned.category, window, known.zone, now)


def leaves_by(version: JourneyVersion, known: Known, now: datetime) -> str | None:
    """The first exit rule that holds; None when none does. Raises Missing."""
    for rule in version.definition.exit_rules:
        if holds(rule.condition, known.subject, known.happened.get(rule_name(rule.id)), known.started_at, None, now):
            return rule.id
    return None


def wait_over(step: WaitUntil, known: Known, since: datetime) -> datetime | None:
    """Until when somebody waits who came to the step `since`; None when the attribute holds no date."""
    match step.until:
        case TimeOfDay(clock=clock, weekdays=weekdays):
            return next_time_of_day(since, clock, weekdays, known.zone)
        case AttributeDate(path=path):
            return attribute_date(step.until, find(known.subject.attributes, path, None), known.zone)
        case _:
            assert_never(step.until)


def arrive(version: JourneyVersion, step_id: str, known: Known, now: datetime) -> Position:
    """Where somebody stands who comes to this step now."""
    step = version.definition.steps.get(step_id)
    mark = None
    if isinstance(step, WaitFor) and isinstance(step.condition, Changed):
        mark = mark_of(step.condition, known.subject)
    return Position(step_id=step_id, since=now, mark=mark)
