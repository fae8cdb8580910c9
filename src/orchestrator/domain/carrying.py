"""Going over to another version of a journey under way: which steps go on as which, and what an execution decides then.

A step's id is its identity. Who stands on a step stands on the step of that id afterwards, and has stood there since he
came, so what was waited counts. Whoever cannot go on so stays on the version he is on, unless a mapping says what has
become of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from orchestrator.domain.advance import SENDING, Known, advance, arrive, step_kind, way_on
from orchestrator.domain.execution import Decision, Done, Position, Result, Visit
from orchestrator.domain.journey import (
    AdaptiveBranch,
    Branch,
    Changed,
    Definition,
    EmitEvent,
    Exit,
    Happened,
    JourneyVersion,
    NbaDecision,
    Send,
    Split,
    Step,
    UpdateSubject,
    Wait,
    WaitFor,
    WaitUntil,
    Webhook,
)
from orchestrator.domain.journey_graph import ways_out
from orchestrator.predicates.faults import Fault, under


class CarryMode(Enum):
    """Which executions under way go over to a version that is published; with neither of these, none."""

    COMPATIBLE = "compatible"
    MAPPED = "mapped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody asks for who publishes: `mapping` has what has become of steps, old to new."""

    mode: CarryMode
    mapping: Mapping[str, str] = field(default_factory=dict)


class Stays(Enum):
    """Why an execution cannot go over where it stands."""

    STEP_GONE = "step_gone"
    KIND_CHANGED = "kind_changed"
    WAIT_CHANGED = "wait_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """The step on which somebody stands afterwards. `anew`: as if he came to it only then."""

    step_id: str
    anew: bool


def landing(step: Step, to: Definition, mapping: Mapping[str, str]) -> Landing | Stays:
    """What becomes of those who stand on a step when they go over to a version of this definition."""
    mapped = step.id in mapping
    target = to.steps.get(mapping.get(step.id, step.id))
    if target is None:
        return Stays.STEP_GONE
    alike = step_kind(target) == step_kind(step) and _way_of_waiting(target) == _way_of_waiting(step)
    if alike or mapped:
        return Landing(step_id=target.id, anew=not alike)
    return Stays.KIND_CHANGED if step_kind(target) != step_kind(step) else Stays.WAIT_CHANGED


def _way_of_waiting(step: Step) -> object:
    """What has to be equal for the time that was waited to mean the same: a time of day that was waited for the day
    before yesterday is none that somebody waited for who waited ten days.
    """
    match step:
        case Wait():
            return Wait
        case WaitUntil(until=until):
            return type(until)
        case WaitFor(condition=Happened()):
            return Happened
        case WaitFor(condition=Changed(path=path)):
            return path  # what another attribute was on arrival, nobody has noted
        case WaitFor():
            return WaitFor
        case Branch() | Split() | AdaptiveBranch() | NbaDecision():
            return None
        case Send() | UpdateSubject() | EmitEvent() | Webhook() | Exit():
            return None
        case _:
            assert_never(step)


def carry_over(
    version: JourneyVersion,
    to: JourneyVersion,
    position: Position,
    landed: Landing,
    known: Known,
    now: datetime,
    done: Done | None = None,
) -> Decision:
    """The decision by which an execution goes over: from then on all that it meets is the new version's.

    `known` is what the new version asks about. `done` is what came of the send, or the call, it stood on: that
    visit is the old version's, and whoever has made it has passed the step that it has become. One that was withdrawn
    before it went out has not been made.
    """
    visits: tuple[Visit, ...] = ()
    target = to.definition.steps[landed.step_id]
    passed = False
    if done is not None:
        step = version.definition.steps[position.step_id]
        visits = (
            Visit(
                step_id=step.id,
                step_kind=step_kind(step),
                result=done.result,
                reason=done.reason,
                entered_at=position.since,
                left_at=now,
                version=version.version,
            ),
        )
        passed = step_kind(target) == step_kind(step) and done.result is not Result.SKIPPED
    if done is not None and passed and isinstance(target, Send | Webhook):
        at = arrive(to, way_on(target, done), known, now)
    elif landed.anew:
        at = arrive(to, target.id, known, now)
    else:
        at = replace(position, step_id=target.id)
    decision = advance(to, at, known, now)
    return replace(decision, visits=visits + decision.visits)


def sent_as(sent: AbstractSet[str], mapping: Mapping[str, str]) -> frozenset[str]:
    """What steps of which messages, calls or events were sent are called in the version that is gone over to."""
    return frozenset(mapping.get(step_id, step_id) for step_id in sent)


def time_limit(step: Step) -> timedelta | None:
    """How long one waits on a step at most, counted from when he came; None: nothing but time alone says so."""
    match step:
        case Wait(duration=duration):
            return duration
        case WaitFor(timeout=timeout):
            return timeout
        case _:
            return None


def order_faults(
    mode: CarryMode, to: Definition, known_steps: AbstractSet[str], pairs: Sequence[tuple[str, str]]
) -> list[Fault]:
    """What is wrong with what was asked for. `pairs` is the mapping as it was written; `known_steps` are those of its
    old steps that any version of the journey has.
    """
    faults: list[Fault] = []
    if mode is CarryMode.COMPATIBLE and pairs:
        message = "steps are mapped with the mode mapped only"
        faults.append(Fault(path="stepMapping", reason="INVALID_VALUE", message=message))
    if mode is CarryMode.MAPPED and not pairs:
        message = "says nothing: name what has become of which step, or carry over those that are compatible"
        faults.append(Fault(path="stepMapping", reason="REQUIRED", message=message))
    taken: set[str] = set()
    for place, (old, new) in enumerate(pairs):
        at = under("stepMapping", place)
        if old in taken:
            faults.append(Fault(path=under(at, "fromStepId"), reason="DUPLICATE_ID", message=f"{old} is mapped before"))
        elif old not in known_steps:
            message = f"no version of the journey has a step {old}"
            faults.append(Fault(path=under(at, "fromStepId"), reason="STEP_NOT_FOUND", message=message))
        taken.add(old)
        if new not in to.steps:
            message = f"the version that is to be published has no step {new}"
            faults.append(Fault(path=under(at, "toStepId"), reason="STEP_NOT_FOUND", message=message))
    return faults


def sends_behind(definition: Definition, step_id: str, mapping: Mapping[str, str]) -> frozenset[str]:
    """The steps by which somebody may have sent something who stands on this one, by what they have become."""
    before: dict[str, set[str]] = {}
    for step in definition.steps.values():
        for _, target in ways_out(step):
            before.setdefault(target, set()).add(step.id)
    behind = _reached(before, step_id) - {step_id}
    return sent_as({name for name in behind if isinstance(definition.steps.get(name), SENDING)}, mapping)


def sends_ahead(definition: Definition, step_id: str) -> frozenset[str]:
    """The steps that send something, to which one may come from this step on, itself included."""
    after = {step.id: {target for _, target in ways_out(step)} for step in definition.steps.values()}
    ahead = _reached(after, step_id)
    return frozenset(name for name in ahead if isinstance(definition.steps.get(name), SENDING))


def _reached(ways: Mapping[str, AbstractSet[str]], start: str) -> set[str]:
    reached, pending = {start}, [start]
    while pending:
        for target in ways.get(pending.pop(), ()):
            if target not in reached:
                reached.add(target)
                pending.append(target)
    return reached
