"""Holdouts that are changed while a journey runs: what differs between times is not taken for a lift."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from orchestrator.learning.impact import Impact, Stratum, TriggerDay, impact_of
from orchestrator.learning.lift import Lift, NoLift, Pair, Side, lift_of, lift_over

TODAY = date(2026, 11, 30)
NOBODY = Side(subjects=0, converted=0)
TENTH, HALF, NONE = (Stratum(percent=percent, salt=None, share=percent / 100) for percent in (10, 50, 0))


def side(subjects: int, converted: int) -> Side:
    return Side(subjects=subjects, converted=converted)


def day(back: int, stratum: Stratum | None, exposed: Side, holdout: Side = NOBODY, changed: int = 0) -> TriggerDay:
    return TriggerDay(
        day=TODAY - timedelta(days=back), exposed=exposed, holdout=holdout, stratum=stratum, changed=changed
    )


def impact(*days: TriggerDay) -> Impact:
    return impact_of(days, today=TODAY, window_days=7)


# 10,000 at 10 % held out and 10,000 at half, when five times as many convert: neither time does the journey change
# anything.
SLOW = day(60, TENTH, side(9000, 180), side(1000, 20))
FAST = day(20, HALF, side(5000, 500), side(5000, 500))


def test_no_effect_under_either_share_is_no_effect_of_both() -> None:
    told = impact(SLOW, FAST)

    assert told.lift is not None
    assert told.lift < -0.4, "as documented, it is of all who were triggered"
    assert (told.matured_exposed.subjects, told.matured_holdout.subjects) == (14_000, 6_000)
    assert told.matured.lift == pytest.approx(0)
    assert told.matured.incremental == pytest.approx(0)
    assert told.matured.exposed_rate == pytest.approx(told.matured.holdout_rate)
    assert not told.matured.significant
    assert [(one.stratum, one.compared) for one in told.strata] == [(TENTH, True), (HALF, True)]
    assert told.sample_ratio is not None
    assert (told.sample_ratio.freedom, told.sample_ratio.alarm) == (2, False)


def test_who_came_before_there_was_a_holdout_is_compared_with_nobody() -> None:
    told = impact(day(90, NONE, side(20_000, 400)), day(20, TENTH, side(9000, 900), side(1000, 100)))

    assert told.matured.lift == pytest.approx(0)
    assert told.matured.incremental == pytest.approx(0)
    assert [one.compared for one in told.strata] == [False, True]


def test_where_no_share_was_recorded_nothing_is_compared_and_it_is_told() -> None:
    old = day(60, None, side(9000, 900), side(1000, 20))

    alone, beside = impact(old), impact(old, FAST)

    assert (alone.matured.no_lift, alone.matured.lift, alone.sample_ratio) == (NoLift.HOLDOUT_UNKNOWN, None, None)
    assert alone.lift is not None
    assert beside.matured == impact(FAST).matured
    assert [(one.stratum, one.compared) for one in beside.strata] == [(None, False), (HALF, True)]


def test_one_bent_stratum_withholds_the_lift_though_the_others_hide_it() -> None:
    fair = [day(20 + back, Stratum(percent=1 + back, salt=None, share=(1 + back) / 100),
                side(100 * (99 - back), 900), side(100 * (1 + back), 9)) for back in range(20)]  # fmt: skip
    bent = day(60, HALF, side(1000, 100), side(1170, 117))

    told = impact(bent, *fair)

    assert told.sample_ratio is not None
    assert not told.sample_ratio.alarm
    assert (told.matured.no_lift, told.matured.lift) == (NoLift.SAMPLE_RATIO_MISMATCH, None)
    assert impact(*fair).matured.lift is not None


def test_a_window_around_those_who_changed_sides_both_sides_are_left_out_alike() -> None:
    """Of a half, those who came last are exposed when they come again: the active ones, who convert."""
    steady = [day(back, HALF, side(500, 50), side(500, 50)) for back in range(31, 61)]
    changing = [day(back, HALF, side(500, 50), side(500, 90), changed=200) for back in range(24, 31)]
    after = [day(back, TENTH, side(900, 90), side(100, 10)) for back in range(10, 24)]

    told = impact(*steady, *changing, *after)

    assert told.matured.lift == pytest.approx(0)
    assert [(one.stratum, one.left_out) for one in told.strata] == [(HALF, 14_000), (TENTH, 0)]
    assert told.strata[0].exposed.subjects == told.strata[0].holdout.subjects == 23 * 500
    assert impact(*changing).matured.no_lift is NoLift.HOLDOUT_CHANGED
    assert sum(one.left_out for one in impact(*changing, *after).strata) == 7000


def test_of_one_stratum_all_is_said_as_of_two_sides() -> None:
    one = side(900, 60), side(100, 5)

    assert lift_over([one]) == lift_over([one, (side(500, 3), NOBODY)]) == lift_of(*one)
    assert lift_over([]).no_lift is lift_over([(NOBODY, one[1])]).no_lift is NoLift.NOBODY_EXPOSED
    assert lift_over([(one[0], NOBODY)]).no_lift is NoLift.NOBODY_HELD_OUT


def test_the_ratio_of_several_strata_and_its_interval_are_those_of_mantel_haenszel_and_greenland_robins() -> None:
    """A table worked out by hand, with so many subjects that the half more does not matter."""
    strata = [(side(400_000, 8_000), side(100_000, 1_000)), (side(100_000, 6_000), side(300_000, 12_000))]
    above, below = 8_000 * 0.2 + 6_000 * 0.75, 1_000 * 0.8 + 12_000 * 0.25
    spread = (400 * 100 * 9 - 8 * 1 * 500) / 500**2 + (100 * 300 * 18 - 6 * 12 * 400) / 400**2
    variance = spread * 1000 / (above * below)

    told = lift_over(strata)

    assert told.lift == pytest.approx(above / below - 1)
    half = 1.959964 * math.sqrt(variance)
    centre = math.log(above / below)
    assert told.interval95 == pytest.approx((math.expm1(centre - half), math.expm1(centre + half)), abs=2e-4)
    assert told.holdout_rate == pytest.approx((0.01 * 400_000 + 0.04 * 100_000) / 500_000)
    assert told.absolute == pytest.approx(0.028 - 0.016)
    assert told.incremental == pytest.approx(14_000 - 8_000)


#: (exposed, held out, base rate) of each share that was in force.
SIZES = [
    pytest.param([(9000, 1000, 0.02), (5000, 5000, 0.10)], id="a tenth, then half"),
    pytest.param([(900, 100, 0.05), (500, 500, 0.02), (190, 10, 0.10)], id="small ones"),
    pytest.param([(95, 5, 0.05)] * 20, id="changed twenty times"),
]


def lifts(sizes: list[tuple[int, int, float]], ratio: float, runs: int, seed: int) -> list[Lift]:
    dice = np.random.default_rng(seed)
    return [
        lift_over(
            (side(n1, int(dice.binomial(n1, base * ratio))), side(n0, int(dice.binomial(n0, base))))
            for n1, n0, base in sizes
        )
        for _ in range(runs)
    ]


@pytest.mark.parametrize("ratio", [1.0, 1.3])
@pytest.mark.parametrize("sizes", SIZES)
def test_intervals_over_strata_hold_what_is_true_as_often_as_they_say(
    sizes: list[tuple[int, int, float]], ratio: float
) -> None:
    """Of 1,000 draws. That of the ratio is near its 95 %; that of the difference may be three points short where a
    stratum of few held out has much weight.
    """
    of_ratio, of_difference = [], []
    truth = sum(n1 * base * (ratio - 1) for n1, _, base in sizes)
    for some in lifts(sizes, ratio, 1000, 64):
        if some.interval95 is not None:
            of_ratio.append(some.interval95[0] <= ratio - 1 <= some.interval95[1])
        assert some.incremental95 is not None
        of_difference.append(some.incremental95[0] <= truth <= some.incremental95[1])

    assert 0.93 <= np.mean(of_ratio) <= 0.975
    assert 0.91 <= np.mean(of_difference) <= 0.98


def test_of_lifts_that_differ_between_strata_the_conversions_are_those_of_each() -> None:
    """Twice as many in one, none more in the other: what the exposed brought more is told right all the same."""
    dice, held = np.random.default_rng(7), []
    for _ in range(800):
        some = lift_over(
            (side(n1, int(dice.binomial(n1, rate1))), side(n0, int(dice.binomial(n0, rate0))))
            for n1, n0, rate1, rate0 in ((9000, 1000, 0.04, 0.02), (5000, 5000, 0.10, 0.10))
        )
        assert some.incremental95 is not None
        held.append(some.incremental95[0] <= 180 <= some.incremental95[1])

    assert 0.93 <= np.mean(held) <= 0.97


def test_who_looks_daily_while_the_share_changes_finds_something_where_nothing_is_in_at_most_5_of_100() -> None:
    """Ten days at a tenth, ten at half, ten at a fifth; the rate goes up and down between them."""
    dice, runs = np.random.default_rng(64), 200
    plan = [(450, 50, 0.05), (250, 250, 0.15), (400, 100, 0.03)]
    found = np.zeros(runs, np.bool_)
    once = np.zeros(runs, np.bool_)
    for run in range(runs):
        strata: list[Pair] = []
        for n1, n0, base in plan:
            strata.append((NOBODY, NOBODY))
            for _ in range(10):
                before = strata[-1]
                strata[-1] = (
                    side(before[0].subjects + n1, before[0].converted + int(dice.binomial(n1, base))),
                    side(before[1].subjects + n0, before[1].converted + int(dice.binomial(n0, base))),
                )
                some = lift_over(strata)
                found[run] |= some.significant
        once[run] = some.interval95 is not None and not some.interval95[0] <= 0 <= some.interval95[1]

    assert found.mean() <= 0.05
    assert stats.binomtest(int(once.sum()), runs, 0.05).pvalue > 0.001, "at the end, for one look"


def test_what_is_told_does_not_depend_on_the_order_of_days_or_in_how_many_parts_they_come() -> None:
    days = [SLOW, FAST, day(20, None, side(7, 1)), day(21, TENTH, side(9, 1), side(1, 0))]
    halves = [
        replace(one, exposed=side(n, c), holdout=NOBODY)
        for one in days
        for n, c in ((one.exposed.subjects // 2, 0),
                     (one.exposed.subjects - one.exposed.subjects // 2, one.exposed.converted))
    ] + [replace(one, exposed=NOBODY) for one in days]  # fmt: skip

    assert impact(*days) == impact(*reversed(days)) == impact(*halves)
