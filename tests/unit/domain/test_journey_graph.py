from __future__ import annotations

from dataclasses import replace
from datetime import time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.journey import (
    After,
    Arm,
    AttributeDate,
    Branch,
    Changed,
    Condition,
    Definition,
    Exit,
    ExitRule,
    Happened,
    OnBlocked,
    Pinned,
    Send,
    Split,
    SplitArm,
    Step,
    TimeOfDay,
    Wait,
    WaitFor,
    WaitUntil,
)
from orchestrator.domain.journey_form import parse
from orchestrator.domain.journey_graph import (
    Existing,
    Findings,
    communications_in,
    examine,
    placed_predicates,
    predicates_in,
)
from orchestrator.predicates.tree import AllOf, Everyone, InCohort, Not

EXISTING = Existing(
    communications={
        "welcome": Pinned(content_revision=3, channel="log", category="marketing"),
        "receipt": Pinned(content_revision=1, channel="log", category="transactional"),
    },
    audiences={
        "buyers": InCohort(cohort_id="vip"),
        "stale": AllOf(clauses=(InCohort(cohort_id="vip"), InCohort(cohort_id="gone"))),
    },
    trigger_contracts={"bought"},
    cohorts={"vip"},
)
NOTHING = Existing(communications={}, audiences={}, trigger_contracts=set(), cohorts=set())


def definition(*steps: Step, max_days: int | None = None, **ids: str) -> Definition:
    return Definition(
        audience_id=ids.get("audience"),
        trigger_contract_id=ids.get("contract"),
        reentry=None,
        max_duration=timedelta(days=max_days) if max_days else None,
        steps={step.id: step for step in steps},
    )


def send(step_id: str, following: str, communication: str = "welcome") -> Send:
    return Send(id=step_id, communication_id=communication, on_blocked=OnBlocked.SKIP, next=following)


def wait(step_id: str, following: str, days: int = 1) -> Wait:
    return Wait(id=step_id, duration=timedelta(days=days), next=following)


def branch(step_id: str, *following: str) -> Branch:
    *arms, otherwise = following
    return Branch(
        id=step_id,
        arms=tuple(Arm(id=f"arm{number}", when=Everyone(), next=target) for number, target in enumerate(arms)),
        otherwise=otherwise,
    )


def wait_for(
    step_id: str, following: str, otherwise: str = "", days: int | None = None, condition: Condition | None = None
) -> WaitFor:
    return WaitFor(
        id=step_id,
        condition=condition or Happened(event_name="reply"),
        timeout=timedelta(days=days) if days is not None else None,
        next=following,
        otherwise=otherwise,
    )


def until(step_id: str, following: str, end: TimeOfDay | AttributeDate | None = None) -> WaitUntil:
    return WaitUntil(id=step_id, until=end or TimeOfDay(clock=time(9, 30)), next=following)


def split(step_id: str, *following: str) -> Split:
    arms = [SplitArm(id=f"arm{number}", weight=1, next=target) for number, target in enumerate(following)]
    return Split(id=step_id, arms=tuple(arms))


RENEWAL = AttributeDate(path=("renewal",), offset=timedelta(0))


def leave(step_id: str = "end") -> Exit:
    return Exit(id=step_id, reason="finished")


def faults_of(findings: Findings) -> list[tuple[str, str]]:
    return [(fault.path, fault.reason) for fault in findings.faults]


def warnings_of(findings: Findings) -> list[tuple[str, str]]:
    return [(fault.path, fault.reason) for fault in findings.warnings]


def test_a_sound_definition_has_neither_faults_nor_warnings() -> None:
    sound = definition(
        send("a", "b"), wait("b", "c"), branch("c", "a2", "end"), send("a2", "end"), leave(), audience="buyers",
        contract="bought", max_days=2,
    )  # fmt: skip

    assert examine(sound, EXISTING) == Findings(faults=(), warnings=())


def test_an_empty_definition_is_refused() -> None:
    assert faults_of(examine(definition(), EXISTING)) == [("steps", "EMPTY_DEFINITION")]


def test_everything_that_is_missing_is_told_together() -> None:
    when = AllOf(clauses=(InCohort(cohort_id="vip"), Not(clause=InCohort(cohort_id="lost"))))
    split = Branch(id="split", arms=(Arm(id="x", when=when, next="nowhere"),), otherwise="")
    broken = definition(
        send("a", "b", "receipt"), send("b", "", "missing"), send("c", "split", ""), split, audience="nobody",
        contract="none",
    )  # fmt: skip

    findings = examine(broken, EXISTING, "journey.draft")

    assert faults_of(findings) == [
        ("journey.draft.audienceId", "AUDIENCE_NOT_FOUND"),
        ("journey.draft.triggerContractId", "TRIGGER_CONTRACT_NOT_FOUND"),
        ("journey.draft.steps[0].send.communicationId", "SEND_STEP_USES_TRANSACTIONAL_COMM"),
        ("journey.draft.steps[1].send.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("journey.draft.steps[1].next", "NEXT_NOT_FOUND"),
        ("journey.draft.steps[2].send.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("journey.draft.steps[3].branch.arms[0].when.clauses[1].clause.cohortId", "COHORT_NOT_FOUND"),
        ("journey.draft.steps[3].branch.arms[0].next", "NEXT_NOT_FOUND"),
        ("journey.draft.steps[3].branch.otherwise", "NEXT_NOT_FOUND"),
    ]
    assert warnings_of(findings) == [
        ("journey.draft.steps[2]", "UNREACHABLE_STEP"),
        ("journey.draft.steps[3]", "UNREACHABLE_STEP"),
    ]


def test_what_new_kinds_of_steps_lack_is_told_in_the_order_of_steps() -> None:
    lost = InCohort(cohort_id="lost")
    broken = definition(
        until("a", ""), wait_for("b", "", "", 1, lost), wait_for("c", "nowhere", condition=Not(clause=lost)),
        split("d", "end", "", "nowhere"), wait_for("e", "end", "", 1), until("f", "gone", RENEWAL), leave(),
    )  # fmt: skip
    rules = (
        ExitRule(id="vip", condition=InCohort(cohort_id="vip")),
        ExitRule(id="left", condition=Happened(event_name="left")),
        ExitRule(id="lost", condition=AllOf(clauses=(InCohort(cohort_id="vip"), lost))),
    )

    findings = examine(replace(broken, exit_rules=rules), EXISTING, "draft")

    assert faults_of(findings) == [
        ("draft.exitRules[2].when.clauses[1].cohortId", "COHORT_NOT_FOUND"),
        ("draft.steps[0].next", "NEXT_NOT_FOUND"),
        ("draft.steps[1].waitFor.when.cohortId", "COHORT_NOT_FOUND"),
        ("draft.steps[1].next", "NEXT_NOT_FOUND"),
        ("draft.steps[1].waitFor.otherwise", "NEXT_NOT_FOUND"),
        ("draft.steps[2].waitFor.when.clause.cohortId", "COHORT_NOT_FOUND"),
        ("draft.steps[2].next", "NEXT_NOT_FOUND"),
        ("draft.steps[3].split.arms[1].next", "NEXT_NOT_FOUND"),
        ("draft.steps[3].split.arms[2].next", "NEXT_NOT_FOUND"),
        ("draft.steps[4].waitFor.otherwise", "NEXT_NOT_FOUND"),
        ("draft.steps[5].next", "NEXT_NOT_FOUND"),
    ]


def test_every_predicate_about_the_subject_has_its_place() -> None:
    one, two, three = (InCohort(cohort_id=name) for name in ("one", "two", "three"))
    some = replace(
        definition(
            wait_for("a", "b", condition=one), wait_for("b", "c", condition=Changed(path=("plan",))),
            wait_for("c", "d"), Branch(id="d", arms=(Arm(id="x", when=two, next="end"),), otherwise="end"), leave(),
        ),
        exit_rules=(
            ExitRule(id="left", condition=Happened(event_name="left", where=Everyone())),
            ExitRule(id="three", condition=three),
        ),
    )  # fmt: skip

    assert placed_predicates(some, "draft") == [
        (three, "draft.exitRules[1].when"),
        (one, "draft.steps[0].waitFor.when"),
        (two, "draft.steps[3].branch.arms[0].when"),
    ]
    assert predicates_in(some) == [three, one, two]


def test_an_end_with_the_goal_is_odd_where_there_is_no_goal() -> None:
    ends = replace(definition(leave()), exit_on_goal=True)
    without = replace(EXISTING, has_goal=False)

    assert examine(ends, EXISTING) == Findings(faults=(), warnings=())
    assert warnings_of(examine(ends, without, "draft")) == [("draft.exitOnGoal", "NO_GOAL")]
    assert warnings_of(examine(definition(leave()), without)) == []


def test_a_key_of_entries_that_have_none_is_odd() -> None:
    keyed, plain = Happened(event_name="reply", entry_key_path=("order",)), Happened(event_name="reply")
    some = replace(
        definition(wait_for("a", "b", condition=plain), wait_for("b", "end", condition=keyed), leave()),
        exit_rules=(ExitRule(id="returned", condition=keyed), ExitRule(id="left", condition=plain)),
    )

    assert examine(some, EXISTING) == Findings(faults=(), warnings=())
    assert warnings_of(examine(some, replace(EXISTING, has_entry_keys=False), "draft")) == [
        ("draft.exitRules[0].event.entryKeyPath", "NO_ENTRY_KEY"),
        ("draft.steps[1].waitFor.event.entryKeyPath", "NO_ENTRY_KEY"),
    ]


@pytest.mark.parametrize(
    ("before", "days", "expected"),
    [
        ((), None, False),
        ((wait("a", "reply", 10),), None, False),
        ((wait("a", "reply", 11),), None, True),
        ((wait("a", "reply", 11),), 10, False),
        ((wait("a", "reply", 11),), 12, True),
        ((branch("a", "b", "reply"), wait("b", "reply", 11)), None, True),
        ((wait_for("a", "reply", "reply", 10),), None, False),
        ((wait_for("a", "reply", "reply", 11),), None, True),
        # There is no telling how long these take.
        ((wait_for("a", "reply"),), None, True),
        ((until("a", "reply", RENEWAL),), None, True),
        ((until("a", "reply", RENEWAL),), 10, False),
        # A day of the week comes within a week.
        ((until("a", "b"), wait("b", "reply", 2)), None, False),
        ((until("a", "b"), until("b", "reply")), None, True),
    ],
)
def test_a_wait_for_what_may_have_been_forgotten_is_odd(
    before: tuple[Step, ...], days: int | None, expected: bool
) -> None:
    forgetful = replace(EXISTING, event_retention=timedelta(days=10))
    some = definition(*before, wait_for("reply", "end"), leave(), max_days=days)
    path = f"steps[{len(before)}].waitFor.event"

    told = [warning for warning in warnings_of(examine(some, forgetful)) if warning[0] == path]

    assert told == ([(path, "EVENT_RETENTION_TOO_SHORT")] if expected else [])
    assert warnings_of(examine(some, EXISTING)) == []


@pytest.mark.parametrize(
    "condition", [Happened(event_name="reply", after=After.STEP), Changed(path=("plan",)), Everyone()], ids=repr
)
def test_only_events_since_the_entry_are_looked_back_for(condition: Condition) -> None:
    forgetful = replace(EXISTING, event_retention=timedelta(days=10))
    some = definition(wait("a", "b", 11), wait_for("b", "end", condition=condition), leave())

    assert examine(some, forgetful) == Findings(faults=(), warnings=())


def test_an_audience_that_asks_for_a_deleted_cohort_is_a_fault_of_the_journey() -> None:
    assert faults_of(examine(definition(leave(), audience="stale"), EXISTING)) == [("audienceId", "COHORT_NOT_FOUND")]


def test_a_step_that_follows_itself_is_a_cycle() -> None:
    findings = examine(definition(wait("a", "a")), EXISTING)

    assert faults_of(findings) == [("steps[0].next", "CYCLE")]
    assert findings.faults[0].message.endswith("a → a")


def test_each_knot_of_steps_is_told_once_by_its_shortest_cycle() -> None:
    tangled = definition(
        branch("a", "b", "c"), branch("b", "a", "c"), wait("c", "d"), branch("d", "e", "end"), wait("e", "d"), leave()
    )

    findings = examine(tangled, EXISTING)

    assert faults_of(findings) == [("steps[1].branch.arms[0].next", "CYCLE"), ("steps[4].next", "CYCLE")]
    assert [fault.message.split(": ")[1] for fault in findings.faults] == ["a → b → a", "d → e → d"]


@pytest.mark.parametrize(
    ("days", "expected"), [(4, []), (3, [("steps[2].wait.duration", "WAIT_EXCEEDS_MAX_DURATION")])]
)
def test_the_slowest_way_decides_whether_a_wait_fits(days: int, expected: list[tuple[str, str]]) -> None:
    slow = definition(
        branch("split", "long", "short"), wait("long", "short", 2), wait("short", "end", 1), leave(), max_days=days
    )

    assert faults_of(examine(slow, EXISTING)) == expected


@pytest.mark.parametrize(
    ("slow", "expected"),
    [
        ((wait("a", "b", 2), wait_for("b", "end", "end", 2)), []),
        ((wait("a", "b", 2), wait_for("b", "end", "end", 3)), ["steps[1].waitFor.timeout"]),
        ((wait_for("a", "b", "b", 2), wait("b", "end", 3)), ["steps[1].wait.duration"]),
        # Who comes early may still have the time.
        ((wait_for("a", "b"), wait("b", "end", 4)), []),
        ((until("a", "b"), until("b", "c", RENEWAL), wait("c", "end", 4)), []),
    ],
)
def test_a_wait_for_something_takes_as_long_as_its_timeout(slow: tuple[Step, ...], expected: list[str]) -> None:
    some = definition(*slow, leave(), max_days=5)

    assert faults_of(examine(some, EXISTING)) == [(path, "WAIT_EXCEEDS_MAX_DURATION") for path in expected]


def test_a_wait_behind_one_that_does_not_fit_is_not_told_again() -> None:
    late = definition(wait("a", "b", 9), wait("b", "end", 1), leave(), max_days=5)

    assert faults_of(examine(late, EXISTING)) == [("steps[0].wait.duration", "WAIT_EXCEEDS_MAX_DURATION")]


def test_what_has_to_be_looked_up_is_found_in_the_steps() -> None:
    when = InCohort(cohort_id="vip")
    some = definition(
        send("a", "b"), send("b", "c", ""), Branch(id="c", arms=(Arm(id="x", when=when, next="a"),), otherwise="a")
    )

    assert communications_in(some) == {"welcome"}
    assert predicates_in(some) == [when]


@st.composite
def graphs(draw: st.DrawFn) -> Definition:
    """Up to seven steps of any kind, ways leading anywhere, now and then to nowhere."""
    count = draw(st.integers(1, 7))
    ids = [f"s{number}" for number in range(count)]
    target = st.sampled_from([*ids, *ids, "nowhere", ""])
    steps: list[Step] = []
    for step_id in ids:
        match draw(st.sampled_from(["send", "wait", "until", "wait_for", "for_ever", "branch", "split", "exit"])):
            case "send":
                steps.append(send(step_id, draw(target)))
            case "wait":
                steps.append(wait(step_id, draw(target), draw(st.integers(1, 4))))
            case "until":
                steps.append(until(step_id, draw(target), draw(st.sampled_from([RENEWAL, None]))))
            case "wait_for":
                steps.append(wait_for(step_id, draw(target), draw(target), draw(st.integers(1, 4))))
            case "for_ever":
                steps.append(wait_for(step_id, draw(target)))
            case "split":
                steps.append(split(step_id, *draw(st.lists(target, min_size=1, max_size=4))))
            case "branch":
                steps.append(branch(step_id, *draw(st.lists(target, min_size=2, max_size=4))))
            case _:
                steps.append(leave(step_id))
    return definition(*steps, max_days=draw(st.none() | st.integers(1, 12)))


class Oracle:
    """The same questions, answered by walking every way there is. Shares no code with what it judges."""

    def __init__(self, definition: Definition) -> None:
        self.steps = dict(definition.steps)
        self.first = next(iter(self.steps))
        self.cyclic = any(self._comes_back(step_id) for step_id in self.steps)

    def named(self, step_id: str) -> list[str]:
        step: Any = self.steps[step_id]
        named = [arm.next for arm in getattr(step, "arms", ())]
        named += [step.next] if hasattr(step, "next") else []
        has_otherwise = hasattr(step, "otherwise") and getattr(step, "timeout", True) is not None
        return [*named, step.otherwise] if has_otherwise else named

    def targets(self, step_id: str) -> list[str]:
        return [name for name in self.named(step_id) if name in self.steps]

    def ways(self, start: str) -> list[list[str]]:
        """Every way from `start` that visits no step twice, but perhaps the last one."""
        complete, growing = [], [[start]]
        while growing:
            way = growing.pop()
            complete.append(way)
            if way[-1] not in way[:-1]:
                growing.extend([*way, target] for target in self.targets(way[-1]))
        return complete

    def _comes_back(self, step_id: str) -> bool:
        return any(len(way) > 1 and way[-1] == step_id for way in self.ways(step_id))

    def unreachable(self) -> set[str]:
        return set(self.steps) - {way[-1] for way in self.ways(self.first)}

    def too_long(self, limit: timedelta) -> set[str]:
        def spent(way: list[str]) -> timedelta:
            lengths = [
                getattr(self.steps[step_id], "duration", None) or getattr(self.steps[step_id], "timeout", None)
                for step_id in way
            ]
            return sum(filter(None, lengths), timedelta(0))

        ways = self.ways(self.first)
        late = set()
        for step_id in self.steps:
            before = [spent(way[:-1]) for way in ways if way[-1] == step_id]
            through = [spent(way) for way in ways if way[-1] == step_id]
            if before and max(before) < limit <= max(through):
                late.add(step_id)
        return late


def at(path: str, steps: dict[str, Step]) -> str:
    return list(steps)[int(path.split("[")[1].split("]")[0])]


@settings(max_examples=400)
@given(graphs())
def test_the_checks_agree_with_walking_every_way(some: Definition) -> None:
    oracle = Oracle(some)

    findings = examine(some, EXISTING)

    steps = dict(some.steps)
    cycles = [fault for fault in findings.faults if fault.reason == "CYCLE"]
    assert bool(cycles) == oracle.cyclic
    for fault in cycles:
        way = fault.message.split(": ")[1].split(" → ")
        assert way[0] == way[-1]
        assert all(following in oracle.targets(step_id) for step_id, following in pairwise(way))
        assert at(fault.path, steps) == way[-2]
    assert {at(warning.path, steps) for warning in findings.warnings} == oracle.unreachable()
    late = {at(fault.path, steps) for fault in findings.faults if fault.reason == "WAIT_EXCEEDS_MAX_DURATION"}
    if some.max_duration is not None and not oracle.cyclic:
        assert late == oracle.too_long(some.max_duration)
    else:
        assert late == set()
    dangling = sum(fault.reason == "NEXT_NOT_FOUND" for fault in findings.faults)
    assert dangling == sum(len(oracle.named(step_id)) - len(oracle.targets(step_id)) for step_id in steps)


@given(graphs())
def test_cutting_a_way_makes_no_cycle(some: Definition) -> None:
    first = some.steps[some.first_step_id]
    cut = replace(some, steps={**some.steps, first.id: leave(first.id)})

    before = {fault.path for fault in examine(some, EXISTING).faults if fault.reason == "CYCLE"}
    after = {fault.path for fault in examine(cut, EXISTING).faults if fault.reason == "CYCLE"}

    assert before or not after


def test_the_largest_definition_is_examined_without_recursion() -> None:
    steps: list[dict[str, Any]] = [
        {"id": f"s{number}", "wait": {"duration": "1h"}, "next": f"s{number + 1}"} for number in range(499)
    ]
    document = {"steps": [*steps, {"id": "s499", "exit": {}}], "maxDurationDays": 365}

    read, faults = parse(document)

    assert faults == []
    assert read is not None
    assert examine(read, NOTHING) == Findings(faults=(), warnings=())
