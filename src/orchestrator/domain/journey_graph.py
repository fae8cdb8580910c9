"""Whether a definition may be published: its graph, and the things it names. Everything that is wrong is told at once.

Pure: what exists in the project is an argument. Steps are numbered as the author wrote them, and paths lead into the
definition (`steps[2].branch.arms[0].next`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta
from typing import assert_never

from orchestrator.domain.communication import MARKETING
from orchestrator.domain.journey import Branch, Definition, Exit, Pinned, Send, Step, Wait
from orchestrator.predicates.check import too_large, unknown_cohorts
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.tree import Predicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """Of the things a definition names, those that exist; of audiences, whom they take.

    `heard_cohorts` are those that the trigger contract names, whether they exist or not. `sizes`: how many leaves the
    rules of cohorts have, of those that have any.
    """

    communications: Mapping[str, Pinned]
    audiences: Mapping[str, Predicate]
    trigger_contracts: AbstractSet[str]
    cohorts: AbstractSet[str]
    heard_cohorts: AbstractSet[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`faults` forbid publishing, `warnings` do not."""

    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def communications_in(definition: Definition) -> set[str]:
    """The communications a definition sends."""
    steps = definition.steps.values()
    return {step.communication_id for step in steps if isinstance(step, Send) and step.communication_id}


def predicates_in(definition: Definition) -> list[Predicate]:
    """The predicates of a definition's branches."""
    return [predicate for predicate, _ in placed_predicates(definition)]


def placed_predicates(definition: Definition, path: str = "") -> list[tuple[Predicate, str]]:
    """The same, each with the path to it."""
    return [
        (arm.when, under(under(under(path, "steps"), place), f"branch.arms[{number}].when"))
        for place, step in enumerate(definition.steps.values())
        if isinstance(step, Branch)
        for number, arm in enumerate(step.arms)
    ]


def examine(definition: Definition, existing: Existing, path: str = "") -> Findings:
    """All faults and warnings of a definition. `path` is where it stands for the caller."""
    faults = [*_missing_references(definition, existing, path)]
    steps_path = under(path, "steps")
    if not definition.steps:
        faults.append(Fault(path=steps_path, reason="EMPTY_DEFINITION", message="a journey has at least one step"))
        return Findings(faults=tuple(faults), warnings=())
    steps = list(definition.steps.values())
    index = {step.id: number for number, step in enumerate(steps)}
    edges = [
        [_Edge(path=edge_path, target=index[target]) for edge_path, target in _ways_out(step) if target in index]
        for step in steps
    ]
    for number, step in enumerate(steps):
        faults.extend(_step_faults(step, existing, index, under(steps_path, number)))
    cycles = _cycles(edges)
    for cycle in cycles:
        last, edge = cycle[-1]
        way = " → ".join([*(steps[number].id for number, _ in cycle), steps[edge.target].id])
        at = under(under(steps_path, last), edge.path)
        faults.append(Fault(path=at, reason="CYCLE", message=f"a journey never goes back to a step: {way}"))
    reachable = _from(edges, 0)
    if definition.max_duration is not None and not cycles:
        faults.extend(_waits_too_long(steps, edges, reachable, definition.max_duration, steps_path))
    warnings = tuple(
        Fault(path=under(steps_path, number), reason="UNREACHABLE_STEP", message=f"no way leads to {step.id}")
        for number, step in enumerate(steps)
        if number not in reachable
    )
    return Findings(faults=tuple(faults), warnings=warnings)


@dataclass(frozen=True, slots=True)
class _Edge:
    """A way from one step to another. `path` leads to the name of its target, from the step."""

    path: str
    target: int


def _ways_out(step: Step) -> Iterator[tuple[str, str]]:
    """(path of the name, name) of every step this one may go on to."""
    match step:
        case Send() | Wait():
            yield "next", step.next
        case Branch():
            for number, arm in enumerate(step.arms):
                yield f"branch.arms[{number}].next", arm.next
            yield "branch.otherwise", step.otherwise
        case Exit():
            pass
        case _:
            assert_never(step)


def _missing_references(definition: Definition, existing: Existing, path: str) -> Iterator[Fault]:
    audience_id, contract_id = definition.audience_id, definition.trigger_contract_id
    if audience_id is not None:
        at = under(path, "audienceId")
        audience = existing.audiences.get(audience_id)
        if audience is None:
            yield Fault(path=at, reason="AUDIENCE_NOT_FOUND", message=f"there is no audience {audience_id}")
        else:
            for fault in unknown_cohorts(audience, existing.cohorts):
                yield Fault(path=at, reason=fault.reason, message=f"in the audience {audience_id}: {fault.message}")
    if contract_id is not None and contract_id not in existing.trigger_contracts:
        at = under(path, "triggerContractId")
        yield Fault(path=at, reason="TRIGGER_CONTRACT_NOT_FOUND", message=f"there is no trigger contract {contract_id}")
    for cohort_id in sorted(existing.heard_cohorts - existing.cohorts):
        message = f"in the trigger contract {contract_id}: there is no segment {cohort_id}"
        yield Fault(path=under(path, "triggerContractId"), reason="COHORT_NOT_FOUND", message=message)


def _step_faults(step: Step, existing: Existing, index: Mapping[str, int], path: str) -> Iterator[Fault]:
    match step:
        case Send():
            at = under(path, "send.communicationId")
            pinned = existing.communications.get(step.communication_id)
            if pinned is None:
                named = step.communication_id
                message = f"there is no communication {named}" if named else "no communication is named"
                yield Fault(path=at, reason="COMMUNICATION_NOT_FOUND", message=message)
            elif pinned.category != MARKETING:
                message = f"{step.communication_id} is {pinned.category}; a journey sends {MARKETING} ones"
                yield Fault(path=at, reason="SEND_STEP_USES_TRANSACTIONAL_COMM", message=message)
        case Branch():
            for number, arm in enumerate(step.arms):
                at = under(path, f"branch.arms[{number}].when")
                yield from unknown_cohorts(arm.when, existing.cohorts, at)
                yield from too_large(arm.when, existing.sizes, at)
        case Wait() | Exit():
            pass
        case _:
            assert_never(step)
    for way, target in _ways_out(step):
        if target not in index:
            message = f"there is no step {target}" if target else "no step is named"
            yield Fault(path=under(path, way), reason="NEXT_NOT_FOUND", message=message)


def _from(edges: Sequence[Sequence[_Edge]], start: int, within: AbstractSet[int] | None = None) -> set[int]:
    """The steps some way leads to from `start`, and `start` itself; `within` bounds where ways may lead."""
    seen = {start}
    ends = [start]
    while ends:
        for edge in edges[ends.pop()]:
            if edge.target not in seen and (within is None or edge.target in within):
                seen.add(edge.target)
                ends.append(edge.target)
    return seen


def _by_finish(edges: Sequence[Sequence[_Edge]]) -> list[int]:
    """All steps, each after every step it leads to (as far as there are no cycles)."""
    finished: list[int] = []
    seen: set[int] = set()
    for start in range(len(edges)):
        if start in seen:
            continue
        seen.add(start)
        way = [(start, iter(edges[start]))]
        while way:
            number, rest = way[-1]
            edge = next((edge for edge in rest if edge.target not in seen), None)
            if edge is None:
                finished.append(number)
                way.pop()
            else:
                seen.add(edge.target)
                way.append((edge.target, iter(edges[edge.target])))
    return finished


def _knots(edges: Sequence[Sequence[_Edge]]) -> list[set[int]]:
    """The sets of steps that lead to each other, in the order of their first steps; steps on no cycle are left out."""
    # Kosaraju: against the ways, in the order of last finish, no walk leaves its knot.
    backwards: list[list[_Edge]] = [[] for _ in edges]
    for number, ways in enumerate(edges):
        for edge in ways:
            backwards[edge.target].append(_Edge(path=edge.path, target=number))
    left = set(range(len(edges)))
    knots = []
    for number in reversed(_by_finish(edges)):
        if number in left:
            knot = _from(backwards, number, within=left)
            left -= knot
            if len(knot) > 1 or any(edge.target == number for edge in edges[number]):
                knots.append(knot)
    return sorted(knots, key=min)


def _cycles(edges: Sequence[Sequence[_Edge]]) -> list[list[tuple[int, _Edge]]]:
    """For each knot the shortest cycle through its first step, as (step, way taken)."""
    cycles = []
    for knot in _knots(edges):
        start = min(knot)
        came: dict[int, tuple[int, _Edge]] = {}
        ends = deque([start])
        while start not in came:
            number = ends.popleft()
            for edge in edges[number]:
                if edge.target in knot and edge.target not in came:
                    came[edge.target] = (number, edge)
                    ends.append(edge.target)
        way = [came[start]]
        while way[-1][0] != start:
            way.append(came[way[-1][0]])
        cycles.append(way[::-1])
    return cycles


def _waits_too_long(
    steps: Sequence[Step], edges: Sequence[Sequence[_Edge]], reachable: AbstractSet[int], limit: timedelta, path: str
) -> Iterator[Fault]:
    """The waits during which an execution that came the slowest way reaches its limit, so that it goes no further.

    A wait after such a wait is not told again. Needs a graph without cycles.
    """
    before = [timedelta(0)] * len(steps)
    late: set[int] = set()
    for number in reversed(_by_finish(edges)):
        if number not in reachable:
            continue
        step = steps[number]
        spent = before[number] + (step.duration if isinstance(step, Wait) else timedelta(0))
        if before[number] < limit <= spent:
            late.add(number)
        for edge in edges[number]:
            before[edge.target] = max(before[edge.target], spent)
    for number in sorted(late):
        message = f"an execution that comes the slowest way has reached its {limit.days} days before this wait is over"
        yield Fault(path=f"{path}[{number}].wait.duration", reason="WAIT_EXCEEDS_MAX_DURATION", message=message)
