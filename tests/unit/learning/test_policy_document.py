from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.learning.arm_rules import ArmRule
from orchestrator.learning.context_policy import ContextPolicy, ContextRules, Matured, learned_in_context
from orchestrator.learning.policy import Policy, learned
from orchestrator.learning.policy_document import document_of, policy_from
from orchestrator.learning.triangle import Cell, CohortTriangle

ARMS = [ArmRule(arm_id="a", fixed_ppm=50_000), ArmRule(arm_id="b"), ArmRule(arm_id="c", paused=True)]


def without_context() -> Policy:
    cells = [Cell(arm_id="b", age=age, lag=lag, subjects=30) for age in range(9, 30) for lag in (None, 2)]
    return learned(CohortTriangle.of("b", 7, cells), ARMS)


def in_context() -> ContextPolicy:
    rows = [
        Matured(arm_id="b", context={"plan": plan, "age": age}, age=9, subjects=300, converted=age)
        for plan, age in (("free", 20), ("paid", 50))
    ]
    return learned_in_context(rows, ARMS, ContextRules(fields=("plan", "age")))


@pytest.mark.parametrize("make", [without_context, in_context])
def test_a_policy_comes_back_as_it_was_stored(make: Callable[[], Policy | ContextPolicy]) -> None:
    policy = make()

    assert policy_from(json.loads(json.dumps(document_of(policy)))) == policy


def broken(make: Callable[[], Policy | ContextPolicy], change: Callable[[Any], object]) -> Any:
    document = json.loads(json.dumps(document_of(make())))
    change(document)
    return document


@pytest.mark.parametrize("make", [without_context, in_context])
@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.clear(),
        lambda document: document.pop("rules"),
        lambda document: document.update(kind="other"),
        lambda document: document.update(arms=None),
        lambda document: document.update(arms=document["arms"][:1]),
        lambda document: document.update(arm_rules=[{}]),
        lambda document: document["rules"].update(min_share=9),
        lambda document: document["arms"][0].update(new="member"),
    ],
)
def test_what_is_not_whole_is_refused(
    make: Callable[[], Policy | ContextPolicy], change: Callable[[Any], object]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        policy_from(broken(make, change))


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (without_context, lambda document: document["arms"][0].update(ppm=1)),
        (without_context, lambda document: document["arms"][0].update(reason="because")),
        (in_context, lambda document: document["arms"][0]["coefficients"].pop()),
        (in_context, lambda document: document["arms"][0]["coefficients"].append("x")),
        (in_context, lambda document: document["arms"][0].update(coefficients=[float("nan")])),
        (in_context, lambda document: document["schema"]["means"].pop()),
        (in_context, lambda document: document["schema"]["kinds"].pop()),
    ],
)
def test_what_does_not_fit_together_is_refused(
    make: Callable[[], Policy | ContextPolicy], change: Callable[[Any], object]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        policy_from(broken(make, change))
