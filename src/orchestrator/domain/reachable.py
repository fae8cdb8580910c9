"""Where a journey can lead: every step that can be reached, the ways on from it, and the outcomes at their ends.

Nothing is known of anybody here: a branch has all of its arms, one that learns all that are not paused, a split each
with its share, a wait that something came or did not, a send that it was made or that one of its gates stood against
it, a webhook that it answered or did not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from orchestrator.domain.advance import CAME, GOAL, NO_DATE, TIMEOUT, step_kind
from orchestrator.domain.execution import Outcome, Result
from orchestrator.domain.gates import (
    FREQUENCY_CAP,
    OPTED_OUT,
    QUIET_HOURS,
    SEND_WINDOW,
    SUPPRESSED,
    USUAL,
    FrequencyCap,
)
from orchestrator.domain.hours import QuietHours
from orchestrator.domain.journey import (
    AdaptiveBranch,
    AttributeDate,
    Branch,
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

#: Why a branch took none of its arms, and why an execution expires: as the core records it.
OTHERWISE = "otherwise"
MAX_DURATION = "max_duration"
#: Paths are counted up to here: there may be more of them than atoms.
MOST_PATHS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way on from a step, as its visit records it: to the step `next`, or to the end of the execution.

    `share`: of those who come to a split, the part
    that takes this way; None for steps that do not divide by lot.
    """

    result: Result
    reason: str | None = None
    share: float | None = None
    next: str | None = None
    outcome: Outcome | None = None
    outcome_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A step that can be reached, and the ways on from it. Whoever comes to it has the same ways, however they came."""

    step_id: str
    step_kind: str
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A step of a path, and by which way it was left."""

    step_id: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """An outcome that can be reached. `path` is the shortest to it, of `paths` that there are.

    Without a path it can come wherever an execution stands: by an exit rule, the goal, or the end of its time.
    """

    outcome: Outcome
    reason: str
    path: tuple[Passed, ...] = ()
    paths: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """`nodes` in an order in which every step comes before those it leads to."""

    nodes: tuple[Node, ...]
    outcomes: tuple[Reached, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What of a project's settings can hold off sends."""

    quiet: QuietHours | None = None
    caps: tuple[FrequencyCap, ...] = ()


def reachable(version: JourneyVersion, holds: Holds) -> Reachable:
    """All that can be reached of a version, which has no cycles: publishing refuses them."""
    steps = version.definition.steps
    ways: dict[str, tuple[Way, ...]] = {}
    order: list[str] = []
    # Depth first, without recursion: a way may have as many steps as a journey.
    pending: list[tuple[str, Iterator[Way]]] = []

    def come_to(step_id: str) -> None:
        ways[step_id] = tuple(ways_on(version, steps[step_id], holds))
        pending.append((step_id, iter(ways[step_id])))

    come_to(version.definition.first_step_id)
    while pending:
        step_id, rest = pending[-1]
        following = next((way.next for way in rest if way.next is not None and way.next not in ways), None)
        if following is not None:
            come_to(following)
        else:
            order.append(step_id)
            pending.pop()
    order.reverse()
    nodes = tuple(Node(step_id=one, step_kind=step_kind(steps[one]), ways=ways[one]) for one in order)
    return Reachable(nodes=nodes, outcomes=(*_ends(nodes), *_anywhere(version)))


def ways_on(version: JourneyVersion, step: Step, holds: Holds) -> Iterator[Way]:
    """The ways on from a step, in the order in which the core looks for them."""
    match step:
        case Send():
            yield from _ways_of_send(version, step, holds)
        case Wait() | WaitUntil(until=TimeOfDay()):
            yield Way(result=Result.EXECUTED, next=step.next)
        case WaitUntil(until=AttributeDate()):
            yield Way(result=Result.EXECUTED, next=step.next)
            yield Way(result=Result.SKIPPED, reason=NO_DATE, next=step.next)
        case WaitFor():
            yield Way(result=Result.EXECUTED, reason=CAME, next=step.next)
            if step.timeout is not None:
                yield Way(result=Result.EXECUTED, reason=TIMEOUT, next=step.otherwise)
        case Branch():
            for arm in step.arms:
                yield Way(result=Result.EXECUTED, reason=arm.id, next=arm.next)
            yield Way(result=Result.EXECUTED, reason=OTHERWISE, next=step.otherwise)
        case Split():
            total = sum(arm.weight for arm in step.arms)
            for part in step.arms:
                yield Way(result=Result.EXECUTED, reason=part.id, share=part.weight / total, next=part.next)
        case AdaptiveBranch() | NbaDecision():
            for choice in step.arms:
                if not choice.paused:
                    yield Way(result=Result.EXECUTED, reason=choice.id, next=choice.next)
        case UpdateSubject() | EmitEvent():
            yield Way(result=Result.EXECUTED, next=step.next)
            yield Way(result=Result.FAILED, next=step.next)
        case Webhook():
            yield Way(result=Result.EXECUTED, next=step.next)
            yield Way(result=Result.FAILED, next=step.otherwise or step.next)
        case Exit():
            yield Way(result=Result.EXECUTED, outcome=Outcome.COMPLETED, outcome_reason=step.reason)
        case WaitUntil():
            raise AssertionError("a wait is until a time of day or a date")
        case _:
            assert_never(step)


def _ways_of_send(version: JourneyVersion, step: Send, holds: Holds) -> Iterator[Way]:
    yield Way(result=Result.EXECUTED, next=step.next)
    yield Way(result=Result.FAILED, next=step.next)
    for reason in _gates(version, step, holds):
        policy = step.on_blocked or USUAL[reason]
        if policy is OnBlocked.EXIT:
            yield Way(result=Result.SKIPPED, reason=reason, outcome=Outcome.EXITED, outcome_reason=reason)
        elif policy is OnBlocked.SKIP or step.wait_at_most is not None:
            yield Way(result=Result.SKIPPED, reason=reason, next=step.next)


def _gates(version: JourneyVersion, step: Send, holds: Holds) -> Iterator[str]:
    """What may stand against a send, as things are set now, in the order of domain/gates.py."""
    pinned = version.pinned[step.communication_id]
    yield SUPPRESSED
    yield OPTED_OUT
    if (step.window or version.definition.send_window) is not None:
        yield SEND_WINDOW
    quiet = holds.quiet
    if quiet is not None and (not quiet.channels or pinned.channel in quiet.channels):
        yield QUIET_HOURS
    if any(cap.is_about(pinned.channel, pinned.category) for cap in holds.caps):
        yield FREQUENCY_CAP


def _ends(nodes: tuple[Node, ...]) -> Iterator[Reached]:
    """Each outcome at the end of a way, with the shortest path to it and the number of all."""
    start = nodes[0].step_id
    paths, length = {start: 1}, {start: 0}
    came: dict[str, Passed] = {}
    ends: dict[tuple[Outcome, str], tuple[int, int, Passed]] = {}
    for node in nodes:
        before, far = paths[node.step_id], length[node.step_id]
        for way in node.ways:
            passed = Passed(step_id=node.step_id, reason=way.reason)
            if way.next is not None:
                paths[way.next] = min(paths.get(way.next, 0) + before, MOST_PATHS)
                if far + 1 < length.get(way.next, far + 2):
                    length[way.next], came[way.next] = far + 1, passed
            elif way.outcome is not None:
                count, least, end = ends.get((way.outcome, way.outcome_reason), (0, far + 1, passed))
                if far < least:
                    least, end = far, passed
                ends[way.outcome, way.outcome_reason] = min(count + before, MOST_PATHS), least, end
    for (outcome, reason), (count, _, end) in ends.items():
        path = [end]
        while path[-1].step_id != start:
            path.append(came[path[-1].step_id])
        yield Reached(outcome=outcome, reason=reason, path=tuple(reversed(path)), paths=count)


def _anywhere(version: JourneyVersion) -> Iterator[Reached]:
    definition = version.definition
    for rule in definition.exit_rules:
        yield Reached(outcome=Outcome.EXITED, reason=rule.id)
    if definition.exit_on_goal:
        yield Reached(outcome=Outcome.GOAL_REACHED, reason=GOAL)
    if definition.max_duration is not None:
        yield Reached(outcome=Outcome.EXPIRED, reason=MAX_DURATION)
