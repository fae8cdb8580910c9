from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from orchestrator.learning.best_arm import compared
from orchestrator.learning.performance import BranchPerformance, DecisionState, Outcomes, performance_of
from orchestrator.learning.rates import interval95
from orchestrator.learning.share_history import SharesSince, share_history

EVEN = Outcomes(
    propensities_ppm=(500_000, 500_000),
    subjects=(600, 600),
    converted=(40, 30),
    matured=(500, 500),
    matured_converted=(40, 25),
)
SHIFTED = Outcomes(
    propensities_ppm=(900_000, 100_000),
    subjects=(1800, 200),
    converted=(150, 10),
    matured=(1800, 200),
    matured_converted=(150, 10),
)


def of(*groups: Outcomes, running: str = "ab", days: int = 30, since_last: int = 0) -> BranchPerformance:
    return performance_of("ab", groups, running=running, days=days, days_since_last=since_last)


def test_documented_fields_count_all_and_further_ones_what_has_matured() -> None:
    a, b = of(EVEN, SHIFTED).arms

    assert (a.subjects_reached, a.goal_events, a.cold_start) == (2400, 190, False)
    assert a.rate == pytest.approx(190 / 2400)
    assert a.credible_interval95 == pytest.approx(stats.beta(191, 2211).ppf([0.025, 0.975]))
    assert (a.matured_subjects, a.matured_goal_events, a.pending_subjects) == (2300, 190, 100)
    assert a.matured_rate == pytest.approx(190 / 2300)
    assert a.matured_interval95 == interval95(190, 2300)
    assert a.propensity_range == (500_000, 900_000)
    assert b.ipw_rate == pytest.approx((2 * 25 + 10 * 10) / (2 * 500 + 10 * 200))
    expected = compared(np.array([191.0, 36.0]), np.array([2111.0, 666.0]))
    assert (a.prob_best, b.expected_loss) == (expected.prob_best[0], expected.expected_loss[1])
    assert b.relative_loss == pytest.approx(expected.expected_loss[1] / (191 / 2302))


def test_improvement_is_over_equal_shares_at_the_same_rates() -> None:
    rates = np.array([190 / 2300, 35 / 700])

    assert of(EVEN, SHIFTED).improvement_over_equal == pytest.approx(225 - 3000 * rates.mean())
    assert of().improvement_over_equal is None


@pytest.mark.parametrize(("reached", "cold"), [(199, True), (200, False)])
def test_an_arm_below_200_starts_cold_and_has_no_interval(reached: int, cold: bool) -> None:
    group = Outcomes(
        propensities_ppm=(500_000, 500_000),
        subjects=(reached, 0),
        converted=(9, 0),
        matured=(reached, 0),
        matured_converted=(9, 0),
    )

    a, b = of(group).arms

    assert a.cold_start is cold
    assert (a.credible_interval95 is None) is (a.matured_interval95 is None) is (a.prob_best is None) is cold
    assert (b.subjects_reached, b.rate, b.matured_rate, b.ipw_rate, b.propensity_range) == (0, None, None, None, None)
    assert b.cold_start


def counts(a: tuple[int, int], b: tuple[int, int]) -> Outcomes:
    won, subjects = (a[0], b[0]), (a[1], b[1])
    return Outcomes(
        propensities_ppm=(500_000, 500_000),
        subjects=subjects,
        converted=won,
        matured=subjects,
        matured_converted=won,
    )


def test_a_branch_has_converged_when_little_can_be_gained_by_going_on_and_some_time_has_passed() -> None:
    near, far = counts((50, 1000), (75, 1000)), counts((500, 10_000), (900, 10_000))

    assert of(near, days=13).state is DecisionState.LEADING
    assert of(counts((50, 1000), (55, 1000))).state is DecisionState.LEARNING
    assert of(counts((5000, 100_000), (5005, 100_000))).state is DecisionState.LEARNING
    assert of(counts((50_000, 10**6), (50_050, 10**6))).state is DecisionState.CONVERGED, "what is lost is little"
    assert of(far).state is DecisionState.CONVERGED
    assert of(far).value_remaining == 0
    assert of(far, days=13).state is DecisionState.LEADING
    assert of(near, days=13, since_last=14).state is DecisionState.STALLED
    assert of(far, since_last=14).state is DecisionState.CONVERGED
    assert of().state is DecisionState.LEARNING
    assert of(far, running="b").state is DecisionState.LEARNING


def test_an_arm_that_came_lately_keeps_a_branch_from_having_converged() -> None:
    far = counts((500, 10_000), (900, 10_000))
    with_third = replace(
        far,
        propensities_ppm=(333_334, 333_333, 333_333),
        subjects=(10_000, 10_000, 20),
        converted=(500, 900, 1),
        matured=(10_000, 10_000, 20),
        matured_converted=(500, 900, 1),
    )

    some = performance_of("abc", [with_third], running="abc", days=30, days_since_last=0)

    assert some.state is DecisionState.LEARNING
    assert (some.value_remaining or 0) > 0.5
    assert some.arms[2].prob_best is None
    assert some.sample_ratio is not None
    assert some.sample_ratio.alarm


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(EVEN, subjects=(1,)), "other numbers of arms"),
        (replace(EVEN, propensities_ppm=(1, 2)), "add up to a million"),
        (replace(EVEN, converted=(-1, 0)), "no count is negative"),
        (replace(EVEN, converted=(601, 30)), "among the subjects"),
        (replace(EVEN, matured_converted=(41, 25)), "among the subjects"),
    ],
)
def test_groups_that_contradict_themselves_are_refused(wrong: Outcomes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        of(wrong)


def version(number: int, a: int) -> SharesSince:
    since = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    return SharesSince(version=number, since=since, ppm=(("a", a), ("b", 1_000_000 - a)))


def test_a_history_tells_changes_and_of_many_the_last_of_each_part_of_time() -> None:
    changes = [version(number, 1000 * number) for number in range(1000)]

    assert share_history([version(3, 7), version(1, 5), version(2, 5)]) == (version(1, 5), version(3, 7))
    folded = share_history(changes, at_most=100)
    assert len(folded) == 100
    assert (folded[0], folded[-1]) == (changes[0], changes[-1])
    assert list(folded) == sorted(folded, key=lambda each: each.version)
    assert share_history([]) == ()
