from __future__ import annotations

import math
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

from orchestrator.learning.impact import Impact, Stratum, TriggerDay, impact_of
from orchestrator.learning.lift import Lift, NoLift, Side, Underpowered, always_valid_half_width, lift_of
from orchestrator.learning.planning import planned
from orchestrator.learning.sample_ratio import (
    Assigned,
    sample_ratio,
    sample_ratio_of_arms,
)
from tests.unit.learning.inverse_propensities import inverse_propensities


def lift(c1: int, n1: int, c0: int, n0: int) -> Lift:
    return lift_of(Side(subjects=n1, converted=c1), Side(subjects=n0, converted=c0))


def test_a_lift_is_the_plain_ratio_and_its_interval_that_of_the_published_cases() -> None:
    some = lift(100, 1000, 80, 1000)

    assert some.lift == pytest.approx(0.25)
    assert some.interval95 == pytest.approx((-0.05622, 0.65146), abs=1e-5)
    assert lift(60, 900, 5, 100).interval95 == pytest.approx((-0.4743, 1.8671), abs=1e-4)
    assert some.absolute == pytest.approx(0.02)
    assert some.incremental == pytest.approx(20)
    assert some.incremental95 == pytest.approx([1000 * bound for bound in some.absolute95 or ()])
    assert some.always_valid95 is not None
    assert some.always_valid95[0] < (some.interval95 or (0, 0))[0] < (some.interval95 or (0, 0))[1]
    assert not some.significant
    assert lift(4000, 20_000, 2000, 20_000).significant


@pytest.mark.parametrize(
    ("n1", "n0", "base", "ratio", "covered"),
    [
        (900, 100, 0.05, 1.2, 0.954), (900, 100, 0.03, 1, 0.951), (500, 100, 0.02, 1, 0.958),
        (1000, 1000, 0.05, 1.1, 0.953), (9000, 1000, 0.05, 1.1, 0.951),
    ],
)  # fmt: skip
def test_an_interval_of_a_lift_holds_it_as_often_as_published(
    n1: int, n0: int, base: float, ratio: float, covered: float
) -> None:
    """The exact sum over the outcomes of both sides. The formula is written once more here, to be asked of arrays."""
    outcomes = [binomial_range(n, rate) for n, rate in ((n1, base * ratio), (n0, base))]
    c1, c0 = np.meshgrid(*outcomes, indexing="ij")
    chance = stats.binom.pmf(c1, n1, base * ratio) * stats.binom.pmf(c0, n0, base)
    centre = np.log((c1 + 0.5) / (n1 + 0.5)) - np.log((c0 + 0.5) / (n0 + 0.5))
    half = 1.959964 * np.sqrt(1 / (c1 + 0.5) - 1 / (n1 + 0.5) + 1 / (c0 + 0.5) - 1 / (n0 + 0.5))

    assert float(chance[abs(centre - math.log(ratio)) <= half].sum()) == pytest.approx(covered, abs=0.001)
    for at in [(3, 4), (len(outcomes[0]) // 2, len(outcomes[1]) // 2), (-1, -1)]:
        bounds = np.expm1(np.array([centre[at] - half[at], centre[at] + half[at]]))
        assert c0[at] == 0 or lift(int(c1[at]), n1, int(c0[at]), n0).interval95 == pytest.approx(bounds, abs=1e-5)


def binomial_range(n: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], n, rate)
    return np.arange(int(low), int(high) + 1)


def test_the_interval_of_the_difference_is_newcombes() -> None:
    """His examples (a) and (d): 56/70 against 48/80, and 9/10 against 3/10."""
    assert lift(56, 70, 48, 80).absolute95 == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert lift(9, 10, 3, 10).absolute95 == pytest.approx((0.1705, 0.8090), abs=1e-4)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((0, 0, 1, 10), NoLift.NOBODY_EXPOSED),
        ((1, 10, 0, 0), NoLift.NOBODY_HELD_OUT),
        ((1, 10, 0, 10), NoLift.HOLDOUT_RATE_ZERO),
        ((0, 0, 0, 0), NoLift.NOBODY_EXPOSED),
    ],
)
def test_where_there_is_no_lift_there_is_a_reason(counts: tuple[int, int, int, int], reason: NoLift) -> None:
    none = lift(*counts)

    assert (none.no_lift, none.lift, none.interval95, none.always_valid95, none.prob_positive) == (reason, *[None] * 4)
    assert not none.significant
    assert (none.absolute is None) == (reason is not NoLift.HOLDOUT_RATE_ZERO)


@pytest.mark.parametrize("counts", [(10, 10, 10, 10), (0, 10**9, 1, 10**9), (1, 1, 1, 10**9), (10**9, 10**9, 1, 1)])
def test_numbers_at_the_edges_give_numbers(counts: tuple[int, int, int, int]) -> None:
    some = lift(*counts)

    numbers = [some.lift, *(some.interval95 or ()), *(some.always_valid95 or ()), some.mde80, some.prob_positive]
    assert all(number is None or math.isfinite(number) for number in numbers)
    with pytest.raises(ValueError, match="among the subjects"):
        Side(subjects=1, converted=2)


def test_few_subjects_or_conversions_are_told_of() -> None:
    assert lift(60, 900, 5, 99).underpowered is Underpowered.FEW_SUBJECTS
    assert lift(60, 900, 9, 100).underpowered is Underpowered.FEW_CONVERSIONS
    assert lift(60, 900, 10, 100).underpowered is None


def test_who_looks_thirty_times_finds_something_where_nothing_is_in_at_most_5_of_100_cases() -> None:
    dice, runs, days = np.random.default_rng(11), 300, 30
    exposed, holdout = (dice.binomial(daily, 0.05, (runs, days)).cumsum(axis=1) for daily in (450, 50))
    n1, n0 = 450 * np.arange(1, days + 1), 50 * np.arange(1, days + 1)

    def found(at: tuple[int, int]) -> tuple[bool, bool]:
        some = lift(int(exposed[at]), int(n1[at[1]]), int(holdout[at]), int(n0[at[1]]))
        return some.significant, some.interval95 is not None and not some.interval95[0] <= 0 <= some.interval95[1]

    looks = np.array([[found((run, day)) for day in range(days)] for run in range(runs)]).any(axis=1).mean(axis=0)
    assert looks[0] <= 0.05
    assert looks[1] > 0.15, "an interval for one look is no good for thirty"


def test_the_always_valid_read_costs_half_as_much_again() -> None:
    variance = 1 / 45 - 1 / 900 + 1 / 50 - 1 / 1000

    assert always_valid_half_width(variance) / (1.959964 * math.sqrt(variance)) == pytest.approx(1.55, abs=0.15)
    assert always_valid_half_width(0) == 0


@pytest.mark.parametrize(("share", "effect", "thousands"), [(0.5, 0.2, 16.4), (0.1, 0.2, 49.0), (0.1, 0.1, 180.7)])
def test_how_many_are_needed_is_as_published(share: float, effect: float, thousands: float) -> None:
    plan = planned(base_rate=0.05, lift=effect, holdout_share=share, weekly_volume=7000, window_days=7)

    assert plan.subjects / 1000 == pytest.approx(thousands, abs=0.05)
    assert plan.held_out == math.ceil(plan.subjects * Fraction(share).limit_denominator(10))
    assert plan.weeks == pytest.approx(plan.subjects / 7000 + 9 / 7)
    assert plan.subjects < plan.always_valid_subjects < 3 * plan.subjects


@pytest.mark.parametrize(("window", "whole"), [(0.0, 1), (0.5, 1), (7.0, 7), (7.1, 8)])
def test_when_the_weeks_of_a_plan_are_over_the_last_of_its_subjects_has_matured(window: float, whole: int) -> None:
    plan = planned(base_rate=0.05, lift=0.2, holdout_share=0.5, weekly_volume=7000, window_days=window)
    first = TODAY
    last = first + timedelta(days=math.ceil(plan.subjects / 1000) - 1)  # of a thousand daily

    def matured_through(today: date) -> date | None:
        one = Side(subjects=1, converted=0)
        days = [TriggerDay(day=day, exposed=one, holdout=one, stratum=TENTH) for day in (first, last)]
        return impact_of(days, today=today, window_days=whole).matured_through

    over = first + timedelta(days=math.floor(plan.weeks * 7))
    assert matured_through(over) == last
    assert matured_through(over - timedelta(days=1)) == first


def test_a_plan_keeps_what_it_promises() -> None:
    plan = planned(base_rate=0.05, lift=0.3, holdout_share=0.3, weekly_volume=1000)
    dice = np.random.default_rng(2)

    def power(subjects: int, *, always: bool) -> float:
        n0 = round(subjects * 0.3)
        results = [
            lift(int(c1), subjects - n0, int(c0), n0)
            for c1, c0 in zip(dice.binomial(subjects - n0, 0.065, 1500), dice.binomial(n0, 0.05, 1500), strict=True)
        ]
        intervals = [some.always_valid95 if always else some.interval95 for some in results]
        return float(np.mean([each is not None and each[0] > 0 for each in intervals]))

    assert power(plan.subjects, always=False) == pytest.approx(0.8, abs=0.04)
    assert power(plan.always_valid_subjects, always=True) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_rate": 0}, {"base_rate": 0.9, "lift": 0.2}, {"lift": 0}, {"lift": -1}, {"holdout_share": 1},
        {"weekly_volume": 0}, {"power": 1}, {"window_days": -1}, {"base_rate": math.nan}, {"weekly_volume": math.inf},
        {"lift": 5e-324}, {"base_rate": 5e-324}, {"holdout_share": 1e-300}, {"lift": 1e-9},
    ],
)  # fmt: skip
def test_a_plan_of_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        planned(**{"base_rate": 0.05, "lift": 0.1, "holdout_share": 0.1, "weekly_volume": 100, **wrong})


def test_too_many_on_one_side_are_an_alarm() -> None:
    fair, bent = sample_ratio(9000, 1000, 0.1), sample_ratio(9000, 1200, 0.1)

    assert fair is not None
    assert bent is not None
    assert (fair.p_value, fair.alarm, bent.alarm) == (1, False, True)
    assert bent.p_value == pytest.approx(stats.chisquare([9000, 1200], [9180, 1020]).pvalue)
    assert sample_ratio(0, 0, 0.1) is sample_ratio(0, 1, 0.1) is None


def test_arms_are_given_out_as_recorded_however_propensities_change() -> None:
    """On 400 branches whose propensities change daily, the audit is as rarely surprised as it says."""
    dice = np.random.default_rng(5)
    below = []
    for _ in range(400):
        ppm = np.rint(dice.dirichlet([1.0, 1.0, 4.0], 40) * 950_000).astype(int) + 16_000
        ppm[:, 2] += 1_000_000 - ppm.sum(axis=1)
        groups = [
            Assigned(propensities_ppm=tuple(of_day), subjects=tuple(dice.multinomial(60, np.array(of_day) / 1e6)))
            for of_day in ppm.tolist()
        ]
        ratio = sample_ratio_of_arms(groups)
        assert ratio is not None
        assert ratio.freedom == 2
        below.append(ratio.p_value < 0.05)
        mean, error = inverse_propensities(groups, 0) or (0, 0)
        assert abs(mean - 1) < 5 * error
    assert 0.025 <= np.mean(below) <= 0.08


def test_arms_that_are_not_given_out_as_recorded_are_an_alarm() -> None:
    half = Assigned(propensities_ppm=(500_000, 500_000), subjects=(600, 400))
    never = Assigned(propensities_ppm=(0, 1_000_000), subjects=(1, 999))
    forced = Assigned(propensities_ppm=(0, 1_000_000), subjects=(0, 999))

    assert [ratio.alarm for ratio in map(sample_ratio_of_arms, ([half], [never], [half, forced])) if ratio] == [
        True
    ] * 3
    one = Assigned(propensities_ppm=(20_000, 980_000), subjects=(1, 0))
    assert sample_ratio_of_arms([one]) is None, "of one nothing can be said"
    assert sample_ratio_of_arms([forced]) is sample_ratio_of_arms([]) is None
    # The measure these tests are held against says the same.
    assert (inverse_propensities([half], 0) or (0,))[0] == pytest.approx(1.2)
    assert inverse_propensities([forced], 0) is None


TODAY = date(2026, 3, 31)
TENTH = Stratum(percent=10, salt=None, share=0.1)


def impact(days: int = 60, holdout: int = 10) -> Impact:
    """Every day 90 exposed, of whom 9 convert, and of those held out one every other day; of the last week nobody."""
    return impact_of(
        [
            TriggerDay(
                day=TODAY - timedelta(days=back),
                exposed=Side(subjects=90, converted=9 if back > 7 else 0),
                holdout=Side(subjects=holdout, converted=1 if back > 7 and back % 2 else 0),
                stratum=TENTH,
            )
            for back in range(days)
        ],
        today=TODAY,
        window_days=7,
    )


def test_an_impact_counts_all_in_the_documented_fields_and_the_matured_beside_them() -> None:
    some = impact()

    assert (some.exposed, some.holdout) == (Side(subjects=5400, converted=468), Side(subjects=600, converted=26))
    assert some.lift == pytest.approx((468 / 5400) / (26 / 600) - 1)
    assert not some.underpowered
    assert some.matured_through == TODAY - timedelta(days=9)
    assert (some.matured_exposed.subjects, some.matured_holdout.subjects) == (51 * 90, 51 * 10)
    assert some.matured.lift == pytest.approx((51 * 9 / 51 / 90) / (26 / 510) - 1)
    assert impact_of([], today=TODAY, window_days=7).no_lift is NoLift.NOBODY_EXPOSED


def test_a_trend_has_thirty_days_and_rates_of_those_that_have_matured() -> None:
    trend = impact(days=20).trend

    assert [day.day for day in trend] == [TODAY - timedelta(days=back) for back in reversed(range(30))]
    assert [day.mature for day in trend] == [True] * 21 + [False] * 9
    assert {day.exposed_rate for day in trend[10:21]} == {0.1}
    assert {day.exposed_rate for day in (*trend[:10], *trend[21:])} == {None}
    assert trend[-1].exposed.subjects == 90


def test_when_sides_have_not_their_shares_the_matured_lift_is_withheld() -> None:
    bent = impact(holdout=20)

    assert bent.sample_ratio is not None
    assert bent.sample_ratio.alarm
    assert (bent.matured.no_lift, bent.matured.lift) == (NoLift.SAMPLE_RATIO_MISMATCH, None)
    assert bent.lift is not None


def test_under_a_hundred_on_a_side_is_underpowered() -> None:
    assert impact(days=9).underpowered
    assert not impact(days=10).underpowered


def test_a_day_may_come_in_parts() -> None:
    sides = Side(subjects=1, converted=1), Side(subjects=2, converted=0)
    one = TriggerDay(day=TODAY, exposed=sides[0], holdout=sides[1], stratum=TENTH)

    assert impact_of([one, one], today=TODAY, window_days=7).trend[-1].exposed == Side(subjects=2, converted=2)
