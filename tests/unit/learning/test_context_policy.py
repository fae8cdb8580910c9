from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import optimize

from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arm_choice import ChoiceReason, choose
from orchestrator.learning.arm_rules import ArmRule
from orchestrator.learning.context_policy import (
    ContextPolicy,
    ContextRules,
    Matured,
    learned_in_context,
)
from orchestrator.learning.features import BUCKETS, FEWEST, Context, FieldKind, schema_of
from orchestrator.learning.logistic import fitted
from orchestrator.learning.policy_document import document_of

RULES = ContextRules(fields=("plan", "age"))
ARMS = [ArmRule(arm_id=arm_id) for arm_id in ("call", "mail", "none")]
YOUNG, OLD = {"plan": "free", "age": 20}, {"plan": "paid", "age": 60}


def rows(subjects: int = 1000) -> list[Matured]:
    """The young answer mails and the old calls."""
    rates = {("mail", 20): 0.30, ("mail", 60): 0.05, ("call", 20): 0.05, ("call", 60): 0.30}
    return [
        Matured(
            arm_id=rule.arm_id,
            context=context,
            age=age,
            subjects=subjects,
            converted=round(subjects * rates.get((rule.arm_id, int(str(context["age"]))), 0.02)),
        )
        for rule in ARMS
        for context in (YOUNG, OLD)
        for age in (8, 40)
    ]


def ppm(policy: ContextPolicy, context: Context, open_arms: str = "call mail none") -> dict[str, int]:
    shares = {share.arm_id: share.ppm for share in policy.shares(context, open_arms.split())}
    assert sum(shares.values()) in (WHOLE, 0)
    return shares


def test_an_arm_gets_those_who_answer_to_it_and_every_arm_its_floor() -> None:
    policy = learned_in_context(rows(), ARMS, RULES)

    assert ppm(policy, YOUNG)["mail"] > 950_000
    assert ppm(policy, OLD)["call"] > 950_000
    assert min(*ppm(policy, YOUNG).values(), *ppm(policy, OLD).values()) >= 10_000
    assert policy.expected([YOUNG])[0] == pytest.approx([0.05, 0.30, 0.02], abs=0.005)


def test_shares_are_those_of_inverse_gaps() -> None:
    policy = learned_in_context(rows(), ARMS, RULES)
    call, mail, none = policy.expected([YOUNG])[0]
    scale = 10 * np.sqrt(12_000)

    of_call, of_none = 1 / (3 + scale * (mail - call)), 1 / (3 + scale * (mail - none))

    assert policy.gap_scale == pytest.approx(scale)
    expected = [0.01 + 0.97 * chance for chance in (of_call, 1 - of_call - of_none, of_none)]
    assert list(ppm(policy, YOUNG).values()) == pytest.approx([1e6 * share for share in expected], abs=1)


def test_a_policy_is_computed_again_from_its_rows_in_whatever_order_they_come() -> None:
    shuffled = rows()
    random.Random(1).shuffle(shuffled)

    one, other = learned_in_context(rows(), ARMS, RULES), learned_in_context(shuffled, ARMS[::-1], RULES)

    assert one == other
    assert one.fingerprint != learned_in_context(rows(999), ARMS, RULES).fingerprint
    assert "paid" not in json.dumps([one.arms[0].coefficients, one.schema.means, one.fingerprint])


def test_until_enough_has_matured_all_arms_are_alike() -> None:
    policy = learned_in_context(rows(16), ARMS, RULES)  # 192 subjects

    assert ppm(policy, YOUNG) == {"call": 333_334, "mail": 333_333, "none": 333_333}
    assert {share.reason for share in policy.shares(YOUNG, ["call", "mail"])} == {ChoiceReason.COLD_START}
    assert learned_in_context([], ARMS, RULES).expected([YOUNG])[0] == pytest.approx([0.5] * 3)


def test_closed_paused_and_fixed_arms_and_one_that_is_new() -> None:
    fixed = [replace(ARMS[0], fixed_ppm=100_000), *ARMS[1:], ArmRule(arm_id="late", paused=True)]
    policy = learned_in_context(rows(), fixed, RULES)

    assert ppm(policy, OLD, "call mail none late") == pytest.approx(
        {"call": 100_000, "mail": 700_000, "none": 200_000, "late": 0}, abs=300_000
    )
    assert ppm(policy, OLD, "call mail none late")["call"] == 100_000
    assert ppm(policy, OLD, "call") == {"call": WHOLE}
    assert policy.shares(OLD, ["late"]) == policy.shares(OLD, ["unknown"]) == ()
    choices = [choose(policy.shares(OLD, ["mail", "new"]), ["mail", "new"], salt="s", unit=str(at)) for at in range(50)]
    assert choices[0].propensities == {"mail": 500_000, "new": 500_000}
    assert {(choice.arm_id, str(choice.reason)) for choice in choices} == {("mail", "context"), ("new", "cold_start")}


@pytest.mark.parametrize(
    "context",
    [
        {}, {"plan": None, "age": None}, {"plan": ["free"], "age": {"x": 1}}, {"plan": 7, "age": "old"},
        {"age": 10**400}, {"age": float("nan")}, {"age": float("inf")}, {"age": -1e300, "plan": "x" * 100_000},
        {"age": True}, {"other": 1},
    ],
)  # fmt: skip
def test_whoever_comes_gets_a_share_of_every_arm(context: Context) -> None:
    shares = ppm(learned_in_context(rows(), ARMS, RULES), context)

    assert min(shares.values()) >= 10_000


def test_what_is_old_counts_less() -> None:
    late = [replace(row, converted=row.converted // 2 if row.age == 40 else row.converted) for row in rows()]

    never, soon = (learned_in_context(late, ARMS, replace(RULES, half_life_days=days)) for days in (None, 4.0))

    assert never.expected([YOUNG])[0][1] == pytest.approx(0.225, abs=0.01)
    assert soon.expected([YOUNG])[0][1] == pytest.approx(0.30, abs=0.01)


def test_a_field_is_a_number_when_all_its_values_are() -> None:
    contexts: list[Context] = [{"a": 1, "b": 1, "c": None}, {"a": 2.5, "b": "x"}, {"a": None, "b": True, "c": []}]

    schema, columns = schema_of(("a", "b", "c"), contexts, np.full(3, float(FEWEST)))

    assert schema.kinds == (FieldKind.NUMBER, FieldKind.CATEGORY, FieldKind.CATEGORY)
    assert columns.tolist() == schema.columns(contexts).tolist()
    assert columns.shape == (3, 1 + 3 + 1 + BUCKETS)
    assert columns[:, 4] == pytest.approx([-1, 1, 0]), "standardised, and the mean where it is missing"
    assert columns[:, 1] == pytest.approx(np.array([-1, -1, 2]) / np.sqrt(2)), "and its being missing says something"
    assert schema.columns([{"b": 1.0}])[0, 5:].tolist() == schema.columns([{"b": 1}])[0, 5:].tolist()


@pytest.mark.parametrize("alike", [1, FEWEST - 1, FEWEST])
def test_of_numbers_that_few_have_a_policy_keeps_nothing(alike: int) -> None:
    """A mean of one is a value of somebody, and of two with their deviation it is both; policies outlive subjects."""
    contexts: list[Context] = [{"plan": "free"}] * 300 + [{"plan": "free", "income": 91_234.5}] * alike
    whom = [
        Matured(arm_id="call", context=context, age=8, subjects=1, converted=place % 2)
        for place, context in enumerate(contexts)
    ]

    policy = learned_in_context(whom, ARMS, ContextRules(fields=("income", "plan")))

    # Also where all of them have the same.
    assert "91234.5" not in json.dumps(document_of(policy))
    apart: list[Context] = [{"income": 10.0 * place} for place in range(alike)]
    schema, _ = schema_of(("income",), apart, np.ones(alike))
    is_kept = alike >= FEWEST
    assert (schema.means[1], schema.scales[1] > 0) == (10.0 * (alike - 1) / 2 if is_kept else 0.0, is_kept)


def test_coefficients_are_the_most_probable_ones() -> None:
    dice = np.random.default_rng(3)
    columns = np.concatenate([np.ones((300, 1)), dice.normal(size=(300, 6))], axis=1)
    subjects = dice.integers(1, 50, 300).astype(float)
    converted = dice.binomial(subjects.astype(int), 0.05).astype(float)
    prior = np.array([-3.0, *[0.0] * 6])

    def minus(coefficients: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        scores = columns @ coefficients
        return float(subjects @ np.log1p(np.exp(scores)) - converted @ scores + ((coefficients - prior) ** 2).sum() / 2)

    expected = optimize.minimize(minus, prior, method="BFGS", options={"gtol": 1e-4}).x

    assert fitted(columns, subjects, converted, prior) == pytest.approx(expected, abs=1e-4)
    separable = fitted(columns, subjects, subjects * (columns[:, 1] > 0), prior)
    assert np.isfinite(separable).all()
    assert fitted(columns[:0], subjects[:0], converted[:0], prior) == pytest.approx(prior)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fields": ("a", "a")}, {"fields": tuple(map(str, range(33)))}, {"exploration_scale": 0}, {"min_share": 0.6},
        {"half_life_days": 0}, {"cold_start": -1}, {"exploration_scale": float("nan")},
    ],
)  # fmt: skip
def test_rules_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fields|above 0|between"):
        ContextRules(**{"fields": ("a",), **wrong})  # type: ignore[arg-type]


def test_rows_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="among the subjects"):
        learned_in_context([replace(rows()[0], converted=9999)], ARMS, RULES)


@pytest.mark.parametrize(
    "draws", [pytest.param(6, id="few draws"), pytest.param(40, id="40 draws", marks=pytest.mark.faults)]
)
def test_in_worlds_with_context_it_loses_less_than_half_and_less_than_the_best_arm_for_ever(draws: int) -> None:
    """Four arms, four binary attributes, rates around 5 %, 500 subjects a day for 60 days, windows of a week."""
    dice = np.random.default_rng(4)
    lost, uniform, single = (np.array(parts) for parts in zip(*(of_world(dice) for _ in range(draws)), strict=True))

    assert lost.sum() / uniform.sum() <= 0.35
    assert lost.sum() < single.sum()


def of_world(dice: np.random.Generator) -> tuple[float, float, float]:
    contexts: list[Context] = [dict(zip("abcd", bits, strict=True)) for bits in product([False, True], repeat=4)]
    bits = np.array([[*map(bool, context.values())] for context in contexts], dtype=float)
    arms = [ArmRule(arm_id=f"arm{place}") for place in range(4)]
    rates = 1 / (1 + np.exp(-(np.log(0.05 / 0.95) + (bits - 0.5) @ dice.normal(0, 0.7, (4, 4)))))
    gaps = rates.max(axis=1, keepdims=True) - rates
    rules = ContextRules(fields=tuple("abcd"))
    counts = np.zeros((60, 16, 4), np.int64)
    shares = np.full((16, 4), 0.25)
    lost = 0.0
    converted = np.zeros_like(counts)
    for day in range(60):
        counts[day] = dice.multinomial(dice.multinomial(500, [1 / 16] * 16), shares)
        converted[day] = dice.binomial(counts[day], rates)
        lost += float((counts[day] * gaps).sum())
        if day < 7:
            continue
        matured, won = counts[: day - 6].sum(axis=0), converted[: day - 6].sum(axis=0)
        policy = learned_in_context(
            [
                Matured(
                    arm_id=f"arm{arm}",
                    context=contexts[at],
                    age=7,
                    subjects=int(matured[at, arm]),
                    converted=int(won[at, arm]),
                )
                for at in range(16)
                for arm in range(4)
            ],
            arms,
            rules,
        )
        names = [arm.arm_id for arm in arms]
        shares = np.array([[share.ppm / WHOLE for share in policy.shares(context, names)] for context in contexts])
    uniform = 60 * 500 / 16 * gaps.mean(axis=1).sum()
    return lost, float(uniform), float(60 * 500 / 16 * gaps.sum(axis=0).min())


def test_shares_are_kept_to() -> None:
    policy = learned_in_context(rows(), ARMS, replace(RULES, exploration_scale=0.01))
    names = [arm.arm_id for arm in ARMS]
    shares = policy.shares(YOUNG, names)

    counts = Counter(choose(shares, names, salt="s", unit=str(at)).arm_id for at in range(5000))

    for share in shares:
        assert counts[share.arm_id] == pytest.approx(5000 * share.ppm / WHOLE, abs=5 * np.sqrt(1250))
