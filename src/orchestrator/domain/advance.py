"""Given where an execution stands and what is known, decide what happens next.

No clock, no I/O: the worker, the simulator and the tests all call this one function.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from orchestrator.domain.execution import Decision, Done, Effect, End, Outcome, Position, Result, Run, Sleep, Visit, Why
from orchestrator.domain.gates import Consent
from orchestrator.domain.journey import Branch, Exit, JourneyVersion, OnBlocked, Send, Step, Wait
from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.facts import Facts

#: One try at a provider, all in: rendering, connecting, the answer, and both transactions around it.
SEND_TIMEOUT = timedelta(seconds=30)

#: How often a parked execution looks again by itself; what parked it also pokes it when it is mended.
PARK_RECHECK = timedelta(minutes=15)

JOURNEY_ARCHIVED = "journey_archived"
JOURNEY_DELETED = "journey_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What `advance` may ask about one execution, all read in one snapshot.

    `closed` says why the journey wants its executions ended (None: it does not).
    """

    subject: Facts
    consent: Consent
    started_at: datetime
    closed: str | None = None


def step_kind(step: Step) -> str:
    """The name of a step's kind, as authors write it."""
    match step:
        case Send():
            return "send"
        case Wait():
            return "wait"
        case Branch():
            return "branch"
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

    def sleep(step: Step, until: datetime, why: Why, parked: str | None = None) -> Decision:
        first = min(until, expires_at) if expires_at is not None else until
        return decide(Sleep(until=first, step_id=step.id, why=why, parked=parked))

    while True:
        step = steps[position.step_id]
        if done is None:  # what was done is recorded before anything may end
            if known.closed is not None:
                return decide(End(outcome=Outcome.CANCELED, reason=known.closed))
            if expires_at is not None and now >= expires_at and not isinstance(step, Exit):
                return decide(End(outcome=Outcome.EXPIRED, reason="max_duration"))
        match step:
            case Send():
                if done is None:
                    pinned = version.pinned[step.communication_id]
                    blocked = known.consent.blocks(pinned.channel, pinned.category)
                    if blocked is None:
                        return decide(
                            Run(activity="send", step_id=step.id, channel=pinned.channel, timeout=SEND_TIMEOUT)
                        )
                    visit(step, Result.SKIPPED, blocked)
                    if step.on_blocked is OnBlocked.EXIT:
                        return decide(End(outcome=Outcome.EXITED, reason=blocked))
                else:
                    visit(step, done.result, done.reason)
                    done = None
                position = Position(step_id=step.next, since=now)
            case Wait():
                due = position.since + step.duration
                if now < due:
                    return sleep(step, due, Why.WAIT)
                visit(step, Result.EXECUTED)
                position = Position(step_id=step.next, since=now)
            case Branch():
                try:
                    taken = next((arm for arm in step.arms if evaluate(arm.when, known.subject, now)), None)
                except Missing as missing:
                    return sleep(step, now + PARK_RECHECK, Why.PARK, missing.reason)
                visit(step, Result.EXECUTED, taken.id if taken else "otherwise")
                position = Position(step_id=taken.next if taken else step.otherwise, since=now)
            case Exit():
                visit(step, Result.EXECUTED)
                return decide(End(outcome=Outcome.COMPLETED, reason=step.reason))
            case _:
                assert_never(step)
