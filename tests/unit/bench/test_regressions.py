"""Ratios are compared with those of before; what differs by itself is no regression."""

from __future__ import annotations

import math

import pytest
from bench.regressions import LEAST, MOST, USUAL, allowed, better_of, compared
from bench.rows import Row, at_least, at_most, beside

ROUNDS = (1.30, 1.40, 1.55, 1.45, 1.35)


def journeys(value: float, rounds: tuple[float, ...] = ROUNDS) -> Row:
    return at_least(1.25, "journeys", value, "×", rounds=rounds)


def reads(value: float) -> Row:
    return at_most(1.5, "reads", value, "×")


def regressions(committed: list[Row], now: list[Row]) -> list[str]:
    return [one.name for one in compared(committed, now) if one.is_regression]


@pytest.mark.parametrize("now", [1.40, 1.30, 1.20, 1.13, 2.80])
def test_noise_and_improvements_pass(now: float) -> None:
    assert regressions([journeys(1.40)], [journeys(now)]) == []


@pytest.mark.parametrize(
    ("committed", "now"),
    [
        (journeys(1.40), journeys(0.70)),
        (reads(1.20), reads(2.40)),
        (at_most(5, "memory", 3, "%"), at_most(5, "memory", 110, "%")),
        (at_least(99.9, "served", 100, "%"), at_least(99.9, "served", 50, "%")),
        (beside("copy", 0.2, "×", better="more"), beside("copy", 0.1, "×", better="more")),
        # However much the rounds differed, and whatever a row says of itself.
        (journeys(1.40, (0.5, 1.4, 4.0)), journeys(0.70)),
        (at_most(3, "tail", 1.0, "×", swing=9), at_most(3, "tail", 2.0, "×", swing=9)),
    ],
)
def test_a_ratio_that_is_twice_as_bad_fails_by_its_name(committed: Row, now: Row) -> None:
    assert regressions([committed], [now]) == [committed.name]


def test_a_missing_row_fails() -> None:
    found = compared([journeys(1.4), reads(1.2)], [reads(1.2)])

    assert [(one.name, one.now, one.is_regression) for one in found] == [
        ("journeys", None, True),
        ("reads", 1.2, False),
    ]


def test_a_new_row_has_nothing_to_be_compared_with() -> None:
    assert regressions([reads(1.2)], [reads(1.2), journeys(0.1)]) == []


@pytest.mark.parametrize(
    "row",
    [
        at_most(40, "start", 7.0, "ms"),
        at_most(45, "pass", 5.0, "s"),
        at_least(8_000, "ingest", 32_000, "events/s"),
        beside("worker memory", 198, "MB"),
        at_most(24, "history", 23, "events"),
        # A ratio of which neither way is better.
        beside("what these cores have to give", 1.9, "×"),
    ],
)
def test_times_rates_and_sizes_are_not_compared(row: Row) -> None:
    assert compared([row], []) == []


@pytest.mark.parametrize(
    ("row", "factor"),
    [
        (journeys(1.4, ()), USUAL),
        (journeys(1.4, (1.3, 1.5)), USUAL),
        (journeys(1.4, (1.39, 1.40, 1.41)), LEAST),
        (journeys(1.4, (1.0, 1.2, 1.5)), 1.5),
        (journeys(1.4, (0.2, 1.4, 3.0)), MOST),
        (at_most(3, "tail", 1.0, "×", swing=1.7), 1.7),
        (at_most(5, "memory", 1.0, "%", swing=1.0), LEAST),
    ],
)
def test_what_is_allowed_comes_from_the_rounds_within_limits(row: Row, factor: float) -> None:
    assert allowed(row) == pytest.approx(factor)


def test_growth_is_compared_as_a_ratio_so_that_little_may_double() -> None:
    committed, now = (at_most(5, "memory", percent, "%", swing=1.0) for percent in (1.0, 4.0))

    (found,) = compared([committed], [now])

    assert found.worse == pytest.approx(1.04 / 1.01)
    assert not found.is_regression


def test_never_is_worse_than_anything() -> None:
    never, once = (at_most(5, "back", value, "×") for value in (math.inf, 2.0))

    assert regressions([once], [never]) == ["back"]
    assert regressions([never], [once]) == []
    assert regressions([never], [never]) == []


def test_of_what_was_measured_twice_the_better_one_counts() -> None:
    committed = [journeys(1.4), reads(1.2)]
    first = compared(committed, [journeys(0.5), reads(1.2)])
    again = compared(committed, [journeys(1.3), reads(3.0)])

    both = better_of(first, {one.name: one for one in again})

    assert [(one.name, one.now) for one in both] == [("journeys", 1.3), ("reads", 1.2)]
    assert not any(one.is_regression for one in both)
