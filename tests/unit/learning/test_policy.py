from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from orchestrator.domain.apportionment import WHOLE
from orchestrator.learning.arm_rules import ArmRule
from orchestrator.learning.delays import delays_of_arms
from orchestrator.learning.policy import Policy, PolicyRules, learned, worth_publishing
from orchestrator.learning.posterior import DelayModel, evidence
from orchestrator.learning.triangle import Cell, CohortTriangle

WINDOW = 7


def cells(days: int = 30, per_day: int = 40, **converting: int) -> list[Cell]:
    """Every day so many of each arm, of whom `converting` convert a day later; of arm `c` three days later."""
    made = []
    for arm_id, conversions in converting.items():
        lag = 3 if arm_id == "c" else 1
        for age in range(days):
            made.append(Cell(arm_id=arm_id, age=age, lag=None, subjects=per_day))
            if age >= lag:
                made.append(Cell(arm_id=arm_id, age=age, lag=lag, subjects=conversions))
    return made


def triangle(days: int = 30, per_day: int = 40, **converting: int) -> CohortTriangle:
    return CohortTriangle.of(converting, WINDOW, cells(days, per_day, **converting))


def rules(*arm_ids: str) -> list[ArmRule]:
    return [ArmRule(arm_id=arm_id) for arm_id in arm_ids]


def ppm(policy: Policy) -> dict[str, int]:
    assert sum(arm.ppm for arm in policy.arms) == WHOLE
    return {arm.arm_id: arm.ppm for arm in policy.arms}


def reasons(policy: Policy) -> dict[str, str]:
    return {arm.arm_id: str(arm.reason) for arm in policy.arms}


def test_a_policy_is_computed_again_from_what_was_recorded_whatever_the_order_in_which_it_came() -> None:
    counted = triangle(a=2, b=4, c=3)
    shuffled = [part for cell in cells(a=2, b=4, c=3) for part in halves(cell)]
    random.Random(5).shuffle(shuffled)
    policy = learned(counted, rules("a", "b", "c"))

    again = CohortTriangle.of("cba", WINDOW, shuffled)
    stored = CohortTriangle.from_document(json.loads(json.dumps(counted.document())))

    assert counted.fingerprint() == again.fingerprint() == stored.fingerprint() == policy.fingerprint
    assert learned(again, rules("c", "b", "a")) == learned(stored, policy.arm_rules, policy.rules) == policy
    assert triangle(a=2, b=4, c=2).fingerprint() != policy.fingerprint


def halves(cell: Cell) -> list[Cell]:
    return [replace(cell, subjects=cell.subjects // 2), replace(cell, subjects=cell.subjects - cell.subjects // 2)]


def test_young_subjects_count_as_far_as_they_could_have_converted_by_their_own_arms_delays() -> None:
    counted = triangle(days=30, a=4, c=4)
    matured = 30 - WINDOW - 1

    policy = learned(counted, rules("a", "c"))

    conversions = 4 * matured
    pooled = np.cumsum([1.0, 1 + conversions, 1, 1 + conversions, 1, 1, 1, 1]) / (8 + 2 * conversions)
    for arm, cumulated in zip(policy.arms, ([0, *[1] * 7], [0, 0, 0, *[1] * 5]), strict=True):
        delays = (np.array(cumulated) * conversions + 20 * pooled) / (conversions + 20)
        assert policy.pooled_delays == pytest.approx(pooled)
        assert arm.delays == pytest.approx(delays)
        assert arm.equivalents == pytest.approx(40 * sum(delays[min(age, WINDOW)] for age in range(30)))
        assert (arm.assigned, arm.matured) == (1200, 40 * matured)
        assert arm.conversions == arm.converted == 4 * (30 - (1 if arm.arm_id == "a" else 3))
        assert (arm.alpha, arm.beta) == pytest.approx((1 + arm.conversions, 1 + arm.equivalents - arm.conversions))


def test_by_windows_only_what_has_matured_counts() -> None:
    policy = learned(triangle(a=4, c=4), rules("a", "c"), PolicyRules(delay_model=DelayModel.MATURED, grace_days=2))

    assert [(arm.equivalents, arm.conversions) for arm in policy.arms] == [(21 * 40, 21 * 4)] * 2


def test_what_is_old_counts_half_after_its_half_life() -> None:
    counted = triangle(a=4, c=4)

    known = evidence(
        counted.assigned,
        counted.converted,
        model=DelayModel.MATURED,
        delay_shrinkage=20,
        grace_days=0,
        half_life_days=10,
    )

    assert known.subjects == pytest.approx(40 * sum(0.5 ** (age / 10) for age in range(7, 30)))
    assert known.gathered == pytest.approx(40 * 23)


@pytest.mark.parametrize(
    ("days", "shares"),
    [
        (0, {"a": 333_334, "b": 333_333, "c": 333_333}),
        (2, {"a": 333_334, "b": 333_333, "c": 333_333}),  # 240 subjects, but 200 equivalents have not matured
        (30, {"a": 20_000, "b": 959_998, "c": 20_002}),
    ],
)
def test_shares_are_equal_until_enough_is_known(days: int, shares: dict[str, int]) -> None:
    counted = CohortTriangle.of("abc", WINDOW, cells(days, a=1, b=4, c=2))

    policy = learned(counted, rules("a", "b", "c"))

    assert ppm(policy) == shares
    assert set(reasons(policy).values()) <= ({"thompson", "floor_only"} if days == 30 else {"cold_start"})
    assert all((arm.prob_best is None) == (days < 30) for arm in policy.arms)


def test_the_same_counts_give_the_same_shares_in_every_release_of_this_version() -> None:
    policy = learned(triangle(days=30, per_day=20, a=1, b=2, c=2), rules("a", "b", "c"))

    assert policy.code_version == 1
    assert ppm(policy) == {"a": 20_052, "b": 535_472, "c": 444_476}


def test_an_arm_that_comes_later_starts_cold_and_the_others_keep_their_ratio() -> None:
    counted = triangle(a=2, b=4)

    before, with_new = learned(counted, rules("a", "b")), learned(counted, rules("a", "b", "new"))

    assert ppm(with_new)["new"] == 333_333
    assert reasons(with_new)["new"] == "cold_start"
    weight = (ppm(before)["b"] - 20_000) / 960_000
    assert ppm(with_new)["b"] == pytest.approx(20_000 + (2 / 3 - 0.04) * weight * 1e6, abs=2)


def test_an_arm_that_is_gone_gets_nothing_and_one_that_comes_back_is_known() -> None:
    counted = triangle(a=2, b=4, c=3)

    gone = learned(counted, rules("a", "b"))

    assert set(ppm(gone)) == {"a", "b"}
    assert gone.pooled_delays == learned(counted, rules("a", "b", "c")).pooled_delays
    assert "cold_start" not in reasons(learned(counted, rules("a", "b", "c"))).values()


def test_paused_arms_get_nobody_a_control_keeps_its_share_and_a_pinned_arm_gets_all() -> None:
    counted = triangle(a=2, b=4, c=3)

    paused = learned(counted, [ArmRule(arm_id="a"), ArmRule(arm_id="b", paused=True), ArmRule(arm_id="c")])
    control = learned(counted, [ArmRule(arm_id="a", fixed_ppm=123_457), *rules("b", "c")])
    pinned = learned(counted, [ArmRule(arm_id="a", fixed_ppm=WHOLE), *rules("b", "c")])
    only_fixed = learned(counted, [ArmRule(arm_id=arm_id, fixed_ppm=100_000) for arm_id in "abc"])

    assert (ppm(paused)["b"], paused.arms[1].prob_best) == (0, None)
    assert ppm(control)["a"] == 123_457
    assert min(ppm(control).values()) >= 17_530  # the floor is a part of what is not fixed
    assert control.arms[0].prob_best == learned(counted, rules("a", "b", "c")).arms[0].prob_best
    assert ppm(pinned) == {"a": WHOLE, "b": 0, "c": 0}
    assert ppm(only_fixed) == {"a": 333_334, "b": 333_333, "c": 333_333}
    assert reasons(control)["a"] == reasons(pinned)["a"] == "forced"


def test_floors_of_many_arms_take_at_most_half() -> None:
    many = {f"arm{number:02}": 2 + 3 * (number == 0) for number in range(50)}

    policy = learned(triangle(**many), rules(*many))

    assert ppm(policy)["arm01"] >= 10_000
    assert ppm(policy)["arm00"] > 400_000


def test_a_version_is_published_when_shares_have_moved_or_a_day_has_passed() -> None:
    old = learned(triangle(a=3, b=4), rules("a", "b"))
    hour, day = timedelta(hours=1), timedelta(hours=24)
    moved = [replace(old.arms[0], ppm=old.arms[0].ppm + 5_000), replace(old.arms[1], ppm=old.arms[1].ppm - 5_000)]
    hardly = [replace(old.arms[0], ppm=old.arms[0].ppm + 4_999), replace(old.arms[1], ppm=old.arms[1].ppm - 4_999)]

    assert worth_publishing(old, None, hour)
    assert not worth_publishing(old, old, hour)
    assert worth_publishing(old, old, day)
    assert worth_publishing(replace(old, arms=tuple(moved)), old, hour)
    assert not worth_publishing(replace(old, arms=tuple(hardly)), old, hour)
    assert worth_publishing(learned(triangle(a=3, b=4), rules("a", "b", "c")), old, hour)


@pytest.mark.parametrize(
    ("arm_rules", "says"),
    [
        ([], "no arm gets anybody"),
        ([ArmRule(arm_id="a", paused=True)], "no arm gets anybody"),
        ([ArmRule(arm_id="a", fixed_ppm=0)], "no arm gets anybody"),
        (rules("a", "a"), "named twice"),
        ([ArmRule(arm_id="a", fixed_ppm=WHOLE), ArmRule(arm_id="b", fixed_ppm=1)], "not more than there is"),
        ([ArmRule(arm_id="a", fixed_ppm=-1), ArmRule(arm_id="b")], "not negative"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(arm_rules: list[ArmRule], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        learned(triangle(a=1), arm_rules)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_share": 0.51}, {"min_share": -0.01}, {"half_life_days": 0}, {"prior_alpha": 0},
        {"prior_beta": float("nan")}, {"delay_shrinkage": float("inf")}, {"cold_start_total": -1}, {"grace_days": 31},
    ],
)  # fmt: skip
def test_rules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"are|is"):
        PolicyRules(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (Cell(arm_id="x", age=0, lag=None, subjects=1), "not there"),
        (Cell(arm_id="a", age=-1, lag=None, subjects=1), "out of range"),
        (Cell(arm_id="a", age=20, lag=8, subjects=1), "out of range"),
        (Cell(arm_id="a", age=1, lag=2, subjects=1), "after the cutoff"),
        (Cell(arm_id="a", age=9, lag=2, subjects=99), "more subjects converted"),
        (Cell(arm_id="a", age=9, lag=None, subjects=-99), "not negative"),
    ],
)
def test_counts_that_contradict_each_other_are_refused(cell: Cell, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CohortTriangle.of("a", WINDOW, [*cells(a=1), cell])


@pytest.mark.parametrize("broken", [{}, {"armIds": 3}, {"armIds": ["a"], "windowDays": 7, "assigned": [[5, 0, 1]]}])
def test_a_document_of_something_else_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not the document"):
        CohortTriangle.from_document({"converted": [], **broken})


def test_a_million_assignments_take_no_time_once_they_are_counted() -> None:
    """Cohorts of years, in the past of which nothing is told apart any more, are of one age."""
    counted = CohortTriangle.of("ab", WINDOW, [Cell(arm_id="a", age=5000, lag=None, subjects=1_000_000)])

    assert counted.assigned.shape == (2, 731)
    assert learned(counted, rules("a", "b")).arms[0].matured == 1_000_000


def test_delays_do_not_fall_and_end_at_one() -> None:
    counted = np.random.default_rng(1).integers(0, 50, (6, 3, WINDOW + 1))

    delays = delays_of_arms(counted, 20)

    assert (np.diff(delays, axis=-1) > 0).all()
    assert delays[..., -1] == pytest.approx(1)
