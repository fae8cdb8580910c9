"""Steps whose arms learn, as authors write them, and what keeps them from being published."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain import adaptive_forms
from orchestrator.domain.journey import (
    DELAY_MODELS,
    AdaptiveArm,
    AdaptiveBranch,
    BranchLearning,
    ContextLearning,
    NbaDecision,
    Stickiness,
)
from orchestrator.domain.journey_form import parse, stored
from orchestrator.domain.journey_graph import Existing, examine
from orchestrator.learning.allocation import MOST_FOR_FLOORS
from orchestrator.learning.context_policy import MOST_FIELDS
from orchestrator.learning.posterior import DelayModel

Json = dict[str, Any]

END: Json = {"id": "end", "exit": {}}
TWO: list[Json] = [{"id": "a", "next": "end"}, {"id": "b", "next": "end"}]
NOTHING = Existing(communications={}, audiences={}, trigger_contracts=frozenset(), cohorts=frozenset())


def faults_of(kind: str, body: object) -> list[tuple[str, str]]:
    definition, faults = parse({"steps": [{"id": "s", kind: body}, END]})
    assert (definition is None) == bool(faults)
    at = f"steps[0].{kind}"
    return [(fault.path.removeprefix(at), fault.reason) for fault in faults]


def step_of(kind: str, body: Json) -> object:
    definition, faults = parse({"steps": [{"id": "s", kind: body}, END]})
    assert definition is not None, faults
    return definition.steps["s"]


def test_what_is_left_out_has_its_default() -> None:
    arms = (AdaptiveArm(id="a", next="end"), AdaptiveArm(id="b", next="end"))

    assert step_of("adaptiveBranch", {"arms": TWO}) == AdaptiveBranch(id="s", arms=arms)
    assert step_of("nbaDecision", {"arms": TWO, "context": ["plan"]}) == NbaDecision(
        id="s", arms=arms, context=(("plan",),)
    )


def test_all_that_can_be_said_is_read() -> None:
    arms = [{"id": "a", "next": "end", "share": 0.125}, {"id": "b", "next": "end", "paused": True}]
    read = (AdaptiveArm(id="a", next="end", share_ppm=125_000), AdaptiveArm(id="b", next="end", paused=True))
    learning = {"minShare": 0, "halfLifeDays": 30, "delayModel": "matured", "graceDays": 0}

    assert step_of(
        "adaptiveBranch", {"arms": arms, "stickiness": "visit", "salt": "spring", "learning": learning}
    ) == AdaptiveBranch(
        id="s",
        arms=read,
        stickiness=Stickiness.VISIT,
        salt="spring",
        learning=BranchLearning(min_share=0, half_life_days=30, delay_model="matured", grace_days=0),
    )
    assert step_of(
        "nbaDecision",
        {"arms": arms, "context": ["plan.name", "a\\.b"], "learning": {"explorationScale": 1, "minShare": 0.5}},
    ) == NbaDecision(
        id="s",
        arms=read,
        context=(("plan", "name"), ("a.b",)),
        learning=ContextLearning(exploration_scale=1, min_share=0.5),
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (5, [("", "INVALID_TYPE")]),
        ({}, [(".arms", "REQUIRED")]),
        ({"arms": TWO, "odd": 1}, [(".odd", "UNKNOWN_FIELD")]),
        ({"arms": [{"id": "a"}, {"id": "a"}]}, [(".arms[1].id", "DUPLICATE_ID")]),
        ({"arms": [{"id": "a", "share": 1.5}]}, [(".arms[0].share", "OUT_OF_RANGE")]),
        ({"arms": [{"id": "a", "share": -0.1}]}, [(".arms[0].share", "OUT_OF_RANGE")]),
        ({"arms": [{"id": "a", "share": float("nan")}]}, [(".arms[0].share", "OUT_OF_RANGE")]),
        ({"arms": [{"id": "a", "share": "half"}]}, [(".arms[0].share", "INVALID_TYPE")]),
        ({"arms": [{"id": "a", "share": True, "paused": "no"}]}, [
            (".arms[0].share", "INVALID_TYPE"), (".arms[0].paused", "INVALID_TYPE"),
        ]),
        ({"arms": TWO, "stickiness": "for ever"}, [(".stickiness", "UNKNOWN_ENUM_VALUE")]),
        ({"arms": TWO, "salt": "x" * 129}, [(".salt", "TOO_LONG")]),
        ({"arms": TWO, "learning": []}, [(".learning", "INVALID_TYPE")]),
        (
            {
                "arms": TWO,
                "learning": {
                    "minShare": 0.6, "halfLifeDays": 0.5, "delayModel": "naive", "graceDays": 31, "fast": True,
                },
            },
            [
                (".learning.fast", "UNKNOWN_FIELD"),
                (".learning.minShare", "OUT_OF_RANGE"),
                (".learning.graceDays", "OUT_OF_RANGE"),
                (".learning.halfLifeDays", "OUT_OF_RANGE"),
                (".learning.delayModel", "UNKNOWN_ENUM_VALUE"),
            ],
        ),
        ({"arms": TWO, "learning": {"graceDays": 1.5}}, [(".learning.graceDays", "INVALID_TYPE")]),
    ],
    ids=str,
)  # fmt: skip
def test_faults_of_a_branch_that_learns(body: object, expected: list[tuple[str, str]]) -> None:
    assert faults_of("adaptiveBranch", body) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [(".context", "REQUIRED")]),
        ({"context": "plan"}, [(".context", "INVALID_TYPE")]),
        ({"context": ["plan", 5, "plan"]}, [(".context[1]", "INVALID_TYPE"), (".context[2]", "INVALID_VALUE")]),
        ({"context": ["$entry.amount"]}, [(".context[0]", "LEAF_NOT_ALLOWED")]),
        ({"context": [f"a{n}" for n in range(33)]}, [(".context", "TOO_LARGE")]),
        ({"context": ["plan"], "learning": {"explorationScale": 0}}, [(".learning.explorationScale", "OUT_OF_RANGE")]),
        ({"context": ["plan"], "learning": {"delayModel": "matured"}}, [(".learning.delayModel", "UNKNOWN_FIELD")]),
    ],
    ids=str,
)
def test_faults_of_a_decision(more: Json, expected: list[tuple[str, str]]) -> None:
    assert faults_of("nbaDecision", {"arms": TWO} | more) == expected


def test_a_step_that_learns_has_no_step_that_comes_after_it() -> None:
    for kind, body in {"adaptiveBranch": {"arms": TWO}, "nbaDecision": {"arms": TWO, "context": ["plan"]}}.items():
        _, faults = parse({"steps": [{"id": "s", kind: body, "next": "end"}, END]})
        assert [(fault.path, fault.reason) for fault in faults] == [("steps[0].next", "INVALID_VALUE")]


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        (TWO, []),
        (TWO[:1], [(".arms", "TOO_FEW_ARMS")]),
        ([arm | {"paused": True} for arm in TWO], [(".arms", "NO_ARM_OPEN")]),
        ([TWO[0] | {"share": 0}, TWO[1] | {"paused": True}], [(".arms", "NO_ARM_OPEN")]),
        ([TWO[0] | {"share": 0.7}, TWO[1] | {"share": 0.7}], [(".arms", "SHARES_EXCEED_WHOLE")]),
        ([TWO[0] | {"share": 0.7}, TWO[1] | {"share": 0.7, "paused": True}], []),
        ([TWO[0] | {"share": 1}, TWO[1]], []),
        ([TWO[0], {"id": "b"}, {"id": "c", "next": "gone"}], [
            (".arms[1].next", "NEXT_NOT_FOUND"), (".arms[2].next", "NEXT_NOT_FOUND"),
        ]),
    ],
    ids=str,
)  # fmt: skip
def test_what_publishing_refuses(arms: list[Json], expected: list[tuple[str, str]]) -> None:
    for kind, more in {"adaptiveBranch": {}, "nbaDecision": {"context": ["plan"]}}.items():
        definition = stored({"steps": [{"id": "s", kind: {"arms": arms} | more}, END]})

        found = examine(definition, NOTHING)

        at = f"steps[0].{kind}"
        assert [(fault.path.removeprefix(at), fault.reason) for fault in found.faults] == expected


def test_nothing_is_learned_without_a_goal() -> None:
    definition = stored({"steps": [{"id": "s", "adaptiveBranch": {"arms": TWO}}, END]})
    without = Existing(
        communications={}, audiences={}, trigger_contracts=frozenset(), cohorts=frozenset(), has_goal=False
    )

    found = examine(definition, without)

    assert [(fault.path, fault.reason) for fault in found.faults] == [("steps[0].adaptiveBranch", "GOAL_REQUIRED")]


def test_what_may_be_written_may_be_learned_by() -> None:
    assert set(DELAY_MODELS) == {model.value for model in DelayModel}
    assert (adaptive_forms.MOST_FLOOR, adaptive_forms.MAX_CONTEXT) == (MOST_FOR_FLOORS, MOST_FIELDS)
