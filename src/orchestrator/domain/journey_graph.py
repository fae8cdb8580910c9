"""Whether a definition may be published: its graph, and the things it names. Everything that is wrong is told at once.

Pure: what exists in the project is an argument. Steps are numbered as the author wrote them, and paths lead into the
definition (`steps[2].branch.arms[0].next`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta
from typing import assert_never

from orchestrator.domain import answers
from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.communication import MARKETING
from orchestrator.domain.durations import format_duration
from orchestrator.domain.journey import (
    AdaptiveArm,
    AdaptiveBranch,
    After,
    Branch,
    Changed,
    Definition,
    EmitEvent,
    Exit,
    Happened,
    NbaDecision,
    Pinned,
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
from orchestrator.domain.ways import Edge, by_finish, cycles_in, reached_from
from orchestrator.predicates.check import too_large, unknown_cohorts
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.tree import Predicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """Of the things a definition names, those that exist; of audiences, whom they take.

    `heard_cohorts` are those that the trigger contract names, whether they exist or not; `contract_asks`: whether it
    asks about the subject. `has_goal`: whether the journey has one now. `has_entry_keys`: whether events start
    executions, so that there are keys of entries that other events can have. `event_retention`: how long events are
    kept; None: for ever. `sizes`: how many leaves the rules of cohorts have, of those that have any.
    """

    communications: Mapping[str, Pinned]
    audiences: Mapping[str, Predicate]
    trigger_contracts: AbstractSet[str]
    cohorts: AbstractSet[str]
    heard_cohorts: AbstractSet[str] = frozenset()
    contract_asks: bool = False
    has_goal: bool = True
    has_entry_keys: bool = True
    event_retention: timedelta | None = None
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


def segments_in(definition: Definition) -> set[str]:
    """The segments a definition names outside of its predicates."""
    own, schedule = definition.entry_condition, definition.schedule
    named = {
        own.contract.segment_id if own is not None else None,
        schedule.segment_id if schedule is not None else None,
    }
    return {segment_id for segment_id in named if segment_id is not None}


def predicates_in(definition: Definition) -> list[Predicate]:
    """The predicates about the subject: those of the entry condition, branches, waits and exit rules."""
    return [predicate for predicate, _ in placed_predicates(definition)]


def placed_predicates(definition: Definition, path: str = "") -> list[tuple[Predicate, str]]:
    """The same, each with the path to it."""
    steps = enumerate(definition.steps.values())
    return [
        *_entry_predicates(definition, path),
        *_rule_predicates(definition, path),
        *(placed for number, step in steps for placed in _step_predicates(step, under(under(path, "steps"), number))),
    ]


def _entry_predicates(definition: Definition, path: str) -> Iterator[tuple[Predicate, str]]:
    condition = definition.entry_condition
    if condition is not None and condition.about_subject is not None:
        yield condition.about_subject, under(path, "entryCondition.predicate")


def _rule_predicates(definition: Definition, path: str) -> Iterator[tuple[Predicate, str]]:
    for number, rule in enumerate(definition.exit_rules):
        if not isinstance(rule.condition, Happened):
            yield rule.condition, under(under(under(path, "exitRules"), number), "when")


def _step_predicates(step: Step, path: str) -> Iterator[tuple[Predicate, str]]:
    match step:
        case Branch(arms=arms):
            for number, arm in enumerate(arms):
                yield arm.when, under(path, f"branch.arms[{number}].when")
        case WaitFor(condition=condition):
            if not isinstance(condition, Happened | Changed):
                yield condition, under(path, "waitFor.when")
        case Send() | Wait() | WaitUntil() | Split() | AdaptiveBranch() | NbaDecision():
            pass
        case UpdateSubject() | EmitEvent() | Webhook() | Exit():
            pass
        case _:
            assert_never(step)


def examine(definition: Definition, existing: Existing, path: str = "") -> Findings:
    """All faults and warnings of a definition. `path` is where it stands for the caller."""
    faults = [*_missing_references(definition, existing, path)]
    for predicate, at in (*_entry_predicates(definition, path), *_rule_predicates(definition, path)):
        faults += _cohort_faults(predicate, existing, at)
    warnings = [
        *_goal_warnings(definition, existing, path),
        *_key_warnings(definition, existing, path),
        *_grace_warnings(definition, existing, path),
    ]
    steps_path = under(path, "steps")
    if not definition.steps:
        faults.append(Fault(path=steps_path, reason="EMPTY_DEFINITION", message="a journey has at least one step"))
        return Findings(faults=tuple(faults), warnings=tuple(warnings))
    steps = list(definition.steps.values())
    index = {step.id: number for number, step in enumerate(steps)}
    edges = [
        [Edge(path=edge_path, target=index[target]) for edge_path, target in ways_out(step) if target in index]
        for step in steps
    ]
    for number, step in enumerate(steps):
        faults.extend(_step_faults(step, existing, index, under(steps_path, number)))
    answer_faults, answer_warnings = answers.examine(definition, _answers_read(definition, path), edges)
    faults += answer_faults
    warnings += answer_warnings
    cycles = cycles_in(edges)
    for cycle in cycles:
        last, edge = cycle[-1]
        way = " → ".join([*(steps[number].id for number, _ in cycle), steps[edge.target].id])
        at = under(under(steps_path, last), edge.path)
        faults.append(Fault(path=at, reason="CYCLE", message=f"a journey never goes back to a step: {way}"))
    start = index.get(definition.first_step_id)
    if start is None:
        named = definition.first_step_id
        message = f"there is no step {named}" if named else "nothing says where executions start"
        faults.append(Fault(path=under(path, "start"), reason="NEXT_NOT_FOUND", message=message))
        return Findings(faults=tuple(faults), warnings=tuple(warnings))
    reachable = reached_from(edges, start)
    if not cycles:
        arrivals = _slowest_arrivals(steps, edges, start, reachable)
        if definition.max_duration is not None:
            faults.extend(_waits_too_long(steps, arrivals, definition.max_duration, steps_path))
        if existing.event_retention is not None:
            warnings.extend(_looks_too_far_back(definition, arrivals, existing.event_retention, steps_path))
    warnings.extend(
        Fault(path=under(steps_path, number), reason="UNREACHABLE_STEP", message=f"no way leads to {step.id}")
        for number, step in enumerate(steps)
        if number not in reachable
    )
    return Findings(faults=tuple(faults), warnings=tuple(warnings))


def ways_out(step: Step) -> Iterator[tuple[str, str]]:
    """(path of the name, name) of every step this one may go on to."""
    match step:
        case Send() | Wait() | WaitUntil() | UpdateSubject() | EmitEvent():
            yield "next", step.next
        case Webhook():
            yield "next", step.next
            if step.otherwise:
                yield "webhook.otherwise", step.otherwise
        case WaitFor():
            yield "next", step.next
            if step.timeout is not None:
                yield "waitFor.otherwise", step.otherwise
        case Branch():
            for number, arm in enumerate(step.arms):
                yield f"branch.arms[{number}].next", arm.next
            yield "branch.otherwise", step.otherwise
        case Split():
            for number, way in enumerate(step.arms):
                yield f"split.arms[{number}].next", way.next
        case AdaptiveBranch() | NbaDecision():
            kind = "adaptiveBranch" if isinstance(step, AdaptiveBranch) else "nbaDecision"
            for number, choice in enumerate(step.arms):
                yield f"{kind}.arms[{number}].next", choice.next
        case Exit():
            pass
        case _:
            assert_never(step)


def _answers_read(definition: Definition, path: str) -> Iterator[answers.Reading]:
    for predicate, at in _rule_predicates(definition, path):
        yield from answers.of_predicate(predicate, at, None)
    for number, step in enumerate(definition.steps.values()):
        place = under(under(path, "steps"), number)
        for predicate, at in _step_predicates(step, place):
            yield from answers.of_predicate(predicate, at, step.id)
        yield from answers.of_step(step, place)


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
    heard = definition.entry_condition.contract.segment_id if definition.entry_condition is not None else None
    if heard is not None and heard not in existing.cohorts:
        at = under(path, "entryCondition.segmentId")
        yield Fault(path=at, reason="COHORT_NOT_FOUND", message=f"there is no segment {heard}")
    schedule = definition.schedule
    if schedule is None:
        return
    if schedule.segment_id is not None and schedule.segment_id not in existing.cohorts:
        message = f"there is no segment {schedule.segment_id}"
        yield Fault(path=under(path, "schedule.segmentId"), reason="COHORT_NOT_FOUND", message=message)
    if not schedule.has_crowd and audience_id is None:
        message = "nothing says whom it enrolls: name a segment, or give the journey an audience, or say everyone"
        yield Fault(path=under(path, "schedule"), reason="SCHEDULE_WITHOUT_CROWD", message=message)


def _goal_warnings(definition: Definition, existing: Existing, path: str) -> Iterator[Fault]:
    # No fault: the goal is not part of a version, and may be set afterwards.
    if definition.exit_on_goal and not existing.has_goal:
        message = "the journey has no goal: nobody reaches it until it has one"
        yield Fault(path=under(path, "exitOnGoal"), reason="NO_GOAL", message=message)


def _key_warnings(definition: Definition, existing: Existing, path: str) -> Iterator[Fault]:
    if existing.has_entry_keys:
        return
    for condition, at in _placed_events(definition, path):
        if condition.entry_key_path:
            message = "no event starts this journey: no entry has a key that an event could have"
            yield Fault(path=under(at, "entryKeyPath"), reason="NO_ENTRY_KEY", message=message)


def _grace_warnings(definition: Definition, existing: Existing, path: str) -> Iterator[Fault]:
    condition = definition.entry_condition
    asks = condition.about_subject is not None if condition is not None else existing.contract_asks
    if definition.entry_grace is not None and definition.audience_id is None and not asks:
        message = "nothing is asked about who would come in, so there is nothing to wait for"
        yield Fault(path=under(path, "entryGrace"), reason="ENTRY_GRACE_UNUSED", message=message)


def _placed_events(definition: Definition, path: str) -> Iterator[tuple[Happened, str]]:
    for number, rule in enumerate(definition.exit_rules):
        if isinstance(rule.condition, Happened):
            yield rule.condition, under(under(under(path, "exitRules"), number), "event")
    for number, step in enumerate(definition.steps.values()):
        if isinstance(step, WaitFor) and isinstance(step.condition, Happened):
            yield step.condition, under(under(under(path, "steps"), number), "waitFor.event")


def _cohort_faults(predicate: Predicate, existing: Existing, path: str) -> Iterator[Fault]:
    """Segments that do not exist, and those whose rules make the predicate too large."""
    yield from unknown_cohorts(predicate, existing.cohorts, path)
    yield from too_large(predicate, existing.sizes, path)


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
        case AdaptiveBranch():
            yield from _arm_faults(step.arms, existing, under(path, "adaptiveBranch"))
        case NbaDecision():
            yield from _arm_faults(step.arms, existing, under(path, "nbaDecision"))
        case Wait() | WaitUntil() | WaitFor() | Branch() | Split() | UpdateSubject() | EmitEvent() | Webhook() | Exit():
            pass
        case _:
            assert_never(step)
    for predicate, at in _step_predicates(step, path):
        yield from _cohort_faults(predicate, existing, at)
    for way, target in ways_out(step):
        if target not in index:
            message = f"there is no step {target}" if target else "no step is named"
            yield Fault(path=under(path, way), reason="NEXT_NOT_FOUND", message=message)


def _arm_faults(arms: Sequence[AdaptiveArm], existing: Existing, path: str) -> Iterator[Fault]:
    """What keeps a step from choosing between its arms, or from learning to."""
    at = under(path, "arms")
    if not existing.has_goal:
        message = "it learns by the journey's goal, and the journey has none"
        yield Fault(path=path, reason="GOAL_REQUIRED", message=message)
    if len(arms) < 2:
        yield Fault(path=at, reason="TOO_FEW_ARMS", message="there are at least two arms to choose between")
    running = [arm for arm in arms if not arm.paused]
    fixed = sum(arm.share_ppm for arm in running if arm.share_ppm is not None)
    if fixed > WHOLE:
        message = "shares that are fixed add up to more than 1"
        yield Fault(path=at, reason="SHARES_EXCEED_WHOLE", message=message)
    if arms and not any(arm.learns or arm.share_ppm for arm in running):
        message = "nobody would go by any of its arms: each is paused, or has a share of 0"
        yield Fault(path=at, reason="NO_ARM_OPEN", message=message)


@dataclass(frozen=True, slots=True)
class _Spent:
    """How long the slowest way takes: at least, and at most (None: there is no telling)."""

    least: timedelta
    most: timedelta | None

    def after(self, step: Step) -> _Spent:
        match step:
            case Wait(duration=duration):
                return self._and(duration, duration)
            case WaitFor(timeout=timeout) if timeout is not None:
                return self._and(timeout, timeout)
            case WaitUntil(until=TimeOfDay()):
                return self._and(timedelta(0), timedelta(days=8))
            case WaitFor() | WaitUntil():
                return self._and(timedelta(0), None)
            case _:
                return self

    def _and(self, least: timedelta, most: timedelta | None) -> _Spent:
        known = None if self.most is None or most is None else self.most + most
        return _Spent(self.least + least, known)

    def or_else(self, other: _Spent) -> _Spent:
        known = None if self.most is None or other.most is None else max(self.most, other.most)
        return _Spent(max(self.least, other.least), known)


def _slowest_arrivals(
    steps: Sequence[Step], edges: Sequence[Sequence[Edge]], start: int, reachable: AbstractSet[int]
) -> dict[int, _Spent]:
    """Of each reachable step, how long it takes to come there. Needs a graph without cycles."""
    arrivals = {start: _Spent(timedelta(0), timedelta(0))}
    for number in reversed(by_finish(edges)):
        if number not in reachable:
            continue
        left = arrivals[number].after(steps[number])
        for edge in edges[number]:
            arrivals[edge.target] = arrivals.get(edge.target, left).or_else(left)
    return arrivals


def _waits_too_long(
    steps: Sequence[Step], arrivals: Mapping[int, _Spent], limit: timedelta, path: str
) -> Iterator[Fault]:
    """The waits during which an execution that came the slowest way reaches its limit, so that it goes no further.

    A wait after such a wait is not told again. A wait until a time or a date may be over at once, and one without a
    timeout has no length to speak of.
    """
    for number in sorted(arrivals):
        arrival = arrivals[number]
        if arrival.least < limit <= arrival.after(steps[number]).least:
            at = "waitFor.timeout" if isinstance(steps[number], WaitFor) else "wait.duration"
            message = (
                f"an execution that comes the slowest way has reached its {limit.days} days before this wait is over"
            )
            yield Fault(path=f"{path}[{number}].{at}", reason="WAIT_EXCEEDS_MAX_DURATION", message=message)


def _looks_too_far_back(
    definition: Definition, arrivals: Mapping[int, _Spent], retention: timedelta, path: str
) -> Iterator[Fault]:
    """The waits for events since the entry to which executions may come when such events have been removed already.

    Who stands on a step is woken by the event itself, so only what was before the arrival can be missed.
    """
    limit = definition.max_duration
    if limit is not None and limit <= retention:
        return
    for number, step in enumerate(definition.steps.values()):
        if number not in arrivals or not _looks_back(step):
            continue
        most = arrivals[number].most
        if most is None or most > retention:
            kept = format_duration(retention)
            message = f"events are kept for {kept}: who comes here later after the entry may miss one that was before"
            at = f"{path}[{number}].waitFor.event"
            yield Fault(path=at, reason="EVENT_RETENTION_TOO_SHORT", message=message)


def _looks_back(step: Step) -> bool:
    match step:
        case WaitFor(condition=Happened(after=After.ENTRY)):
            return True
        case _:
            return False
