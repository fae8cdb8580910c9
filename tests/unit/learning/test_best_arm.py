"""Closed forms, published tables, and integrals computed another way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import integrate, stats

from orchestrator.learning.best_arm import compared, value_remaining
from orchestrator.learning.rates import interval95

TABLE = [
    (
        [(50, 1000), (65, 1000)],
        [0.07552, 0.92448],
        [0.015325, 0.000355],
        [(0.03817, 0.06533), (0.05136, 0.08202)],
    ),
    (
        [(10, 200), (15, 200), (20, 200)],
        [0.01785, 0.18616, 0.79599],
        [0.052697, 0.027945, 0.003192],
        [(0.02763, 0.08959), (0.04618, 0.12010), (0.06585, 0.14949)],
    ),
    (
        [(12, 240), (9, 180)],
        [0.48493, 0.51507],
        [0.009398, 0.008172],
        [(0.02903, 0.08536), (0.02681, 0.09229)],
    ),
    (
        [(0, 50), (3, 50)],
        [0.05881, 0.94119],
        [0.058779, 0.001087],
        [(0.00050, 0.06978), (0.02178, 0.16242)],
    ),
]


@pytest.mark.parametrize("counts", [[1.0, 2.0, 5.0], [3.0], [1.0] * 12, [0.5, 40.0, 41.0]])
def test_arms_of_powers_are_the_best_in_proportion_to_them(counts: list[float]) -> None:
    """Beta(a, 1) is the highest of a uniform numbers: closed forms for any number of arms."""
    a = np.array(counts)
    total = a.sum()

    comparison = compared(a, np.ones_like(a))

    assert comparison.prob_best == pytest.approx(a / total, abs=1e-6)
    assert comparison.expected_loss == pytest.approx(total / (total + 1) - a / (a + 1), abs=1e-6)


@pytest.mark.parametrize(("data", "best", "loss", "intervals"), TABLE)
def test_of_counts_as_of_the_published_table(
    data: list[tuple[int, int]], best: list[float], loss: list[float], intervals: list[tuple[float, float]]
) -> None:
    conversions, subjects = np.array(data, dtype=float).T

    comparison = compared(1 + conversions, 1 + subjects - conversions)

    assert comparison.prob_best == pytest.approx(best, abs=1e-5)
    assert comparison.expected_loss == pytest.approx(loss, abs=1e-5)
    for (converted, of), interval in zip(data, intervals, strict=True):
        assert interval95(converted, of) == pytest.approx(interval, abs=1e-5)


@pytest.mark.parametrize(
    "arms",
    [
        [(1, 51), (1, 51)],
        [(1, 31), (1, 1)],
        [(50_001, 950_001), (31, 601), (2, 30)],  # one a thousand times narrower than another
        [(1e6, 19e6), (1e6 + 900, 19e6 - 900)],
    ],
)
def test_of_any_arms_as_adaptive_integration_has_it(arms: Sequence[tuple[float, float]]) -> None:
    alpha, beta = np.array(arms, dtype=float).T
    betas = [stats.beta(*arm) for arm in arms]
    knots = sorted({float(q) for each in betas for q in each.ppf([1e-12, 1e-6, 0.01, 0.5, 0.99, 1 - 1e-6])})
    edges = list(zip([0.0, *knots], [*knots, 1.0], strict=True))

    def wins(place: int) -> float:
        others = [each for at, each in enumerate(betas) if at != place]

        def density(x: float) -> float:
            return float(betas[place].pdf(x) * np.prod([other.cdf(x) for other in others]))

        return float(sum(integrate.quad(density, low, high, epsabs=1e-10)[0] for low, high in edges))

    highest = sum(
        integrate.quad(lambda x: 1 - float(np.prod([each.cdf(x) for each in betas])), low, high, epsabs=1e-10)[0]
        for low, high in edges
    )

    comparison = compared(alpha, beta)

    assert comparison.prob_best == pytest.approx([wins(place) for place in range(len(arms))], abs=1e-5)
    assert comparison.expected_loss == pytest.approx([highest - each.mean() for each in betas], abs=1e-5)


def test_an_arm_that_is_left_out_is_never_the_best_and_takes_nothing_from_others() -> None:
    alpha, beta = np.array([5.0, 90.0, 6.0]), np.array([50.0, 10.0, 50.0])

    without = compared(alpha, beta, np.array([True, False, True]))

    assert without.prob_best[1] == without.expected_loss[1] == 0
    assert without.prob_best[[0, 2]] == pytest.approx(compared(alpha[[0, 2]], beta[[0, 2]]).prob_best, abs=1e-6)
    assert not compared(alpha, beta, np.zeros(3, bool)).prob_best.any()


def test_many_branches_at_once_are_as_one_after_another() -> None:
    alpha, beta = np.array([[2.0, 3.0], [50.0, 70.0]]), np.array([[9.0, 9.0], [900.0, 930.0]])

    together = compared(alpha, beta).prob_best

    for at in range(2):
        assert together[at].tobytes() == compared(alpha[at], beta[at]).prob_best.tobytes()


def test_the_value_that_remains_is_a_quantile_of_what_the_best_may_be_beaten_by() -> None:
    alpha, beta = np.array([51.0, 66.0, 60.0]), np.array([951.0, 936.0, 942.0])
    drawn = np.random.default_rng(7).beta(alpha, beta, (400_000, 3))
    expected = np.quantile(drawn.max(axis=1) / drawn[:, 1] - 1, 0.95)

    assert value_remaining(alpha, beta, 1) == pytest.approx(expected, abs=0.003)
    assert value_remaining(np.array([1.0, 5000.0]), np.array([5000.0, 1.0]), 1) == 0
    assert value_remaining(np.array([5.0]), np.array([5.0]), 0) == 0


@pytest.mark.parametrize(("subjects", "mean", "least"), [(200, (0.945, 0.955), 0.93), (100, (0.945, 0.957), 0.92)])
def test_an_interval_holds_the_rate_in_95_of_100_cases(subjects: int, mean: tuple[float, float], least: float) -> None:
    """By the exact sum over all outcomes, for rates from 1 to 30 %."""
    outcomes = np.arange(subjects + 1)
    low, high = np.array([interval95(int(count), subjects) for count in outcomes]).T

    covered = [
        float(stats.binom.pmf(outcomes, subjects, rate)[(low <= rate) & (rate <= high)].sum())
        for rate in np.linspace(0.01, 0.30, 60)
    ]

    assert mean[0] <= np.mean(covered) <= mean[1]
    assert min(covered) >= least


def test_without_conversions_the_interval_has_a_closed_form() -> None:
    assert interval95(0, 50) == pytest.approx((1 - 0.975 ** (1 / 51), 1 - 0.025 ** (1 / 51)), abs=1e-9)
    with pytest.raises(ValueError, match="between 0 and the subjects"):
        interval95(3, 2)
