"""What an execution is doing where it stands, in words for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import assert_never

from orchestrator.domain.durations import format_duration
from orchestrator.domain.execution import Outcome
from orchestrator.domain.journey import (
    AdaptiveBranch,
    AttributeDate,
    Branch,
    Changed,
    Condition,
    EmitEvent,
    Exit,
    Happened,
    NbaDecision,
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
from orchestrator.predicates.instants import write_instant
from orchestrator.predicates.paths import join_path


class Doing(Enum):
    """What an execution is at."""

    ENDED = "ended"
    WAIT = "wait"
    WAIT_FOR = "wait_for"
    SEND = "send"
    # it changes the subject, tells an event, calls a webhook, or chooses an arm
    RUN = "run"
    # a gate holds off its send
    GATE = "gate"
    PARK = "park"
    # it could go on: it is about to, or it is stuck
    DUE = "due"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What there is to say of an execution. `tries`: how often its send or call was begun; `reason`: why it ended."""

    doing: Doing
    step: Step
    since: datetime
    wakes_at: datetime | None = None
    parked: str | None = None
    canceling: str | None = None
    tries: int = 0
    outcome: Outcome | None = None
    reason: str | None = None
    ended_at: datetime | None = None


def in_words(at: Standing) -> str:
    """One or two sentences, without anything that the subject's attributes say."""
    where = f"on the step {at.step.id}"
    match at.doing:
        case Doing.ENDED:
            assert at.outcome is not None, "it has ended"
            assert at.ended_at is not None, "it has ended"
            return f"Ended {at.outcome.value} {where} at {write_instant(at.ended_at)}: {at.reason}."
        case Doing.WAIT:
            told = f"Waits {where}, {_wait(at.step)}, since {write_instant(at.since)}."
        case Doing.WAIT_FOR:
            told = f"Waits {where} for {_awaited(at.step)}, since {write_instant(at.since)}.{_timeout(at)}"
        case Doing.SEND:
            tries = f"tried {at.tries} times" if at.tries > 1 else "under way" if at.tries else "not begun"
            told = f"Sends {where}: {tries}, since {write_instant(at.since)}."
        case Doing.RUN:
            tries = f"tried {at.tries} times" if at.tries > 1 else "under way"
            told = f"{_deed(at.step)} {where}: {tries}, since {write_instant(at.since)}."
        case Doing.GATE:
            told = f"Waits {where} to send ({at.parked}), since {write_instant(at.since)}."
        case Doing.PARK:
            told = (
                f"Is stopped {where} ({at.parked}), since {write_instant(at.since)}: something has to be mended first."
            )
        case Doing.DUE:
            told = f"Stands {where} and could go on: it is about to look, or it is stuck."
        case _:
            assert_never(at.doing)
    if at.canceling is not None:
        told += f" It was told to end ({at.canceling})."
    elif at.wakes_at is not None and at.doing is not Doing.DUE:
        told += f" It looks by itself at {write_instant(at.wakes_at)}."
    return told


def _wait(step: Step) -> str:
    match step:
        case Wait(duration=duration):
            return f"for {format_duration(duration)}"
        case WaitUntil(until=TimeOfDay(clock=clock)):
            return f"until {clock.isoformat()} by the subject's clock"
        case WaitUntil(until=AttributeDate(path=path)):
            return f"until the date that {join_path(path)} holds"
        case WaitUntil() | WaitFor() | Send() | Branch() | Split() | AdaptiveBranch() | NbaDecision():
            return "for its turn"
        case UpdateSubject() | EmitEvent() | Webhook() | Exit():
            return "for its turn"
        case _:
            assert_never(step)


def _deed(step: Step) -> str:
    match step:
        case UpdateSubject():
            return "Changes attributes"
        case EmitEvent(event_name=name):
            return f"Tells the event {name}"
        case AdaptiveBranch() | NbaDecision():
            return "Chooses an arm"
        case _:
            return "Calls a webhook"


def _awaited(step: Step) -> str:
    return _condition(step.condition) if isinstance(step, WaitFor) else "something"


def _condition(condition: Condition) -> str:
    match condition:
        case Happened(event_name=name):
            return f"the event {name}"
        case Changed(path=path):
            return f"a change of {join_path(path)}"
        case _:
            return "its condition to hold"


def _timeout(at: Standing) -> str:
    if not isinstance(at.step, WaitFor) or at.step.timeout is None:
        return ""
    return f" At {write_instant(at.since + at.step.timeout)} it goes on to {at.step.otherwise}."
