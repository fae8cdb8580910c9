from __future__ import annotations

import random

import pytest

from orchestrator.domain.estimate import estimate


def test_everybody_looked_at_is_no_estimate() -> None:
    found = estimate([3, 0, 4], 3)

    assert (found.size, found.low, found.high, found.exact) == (7, 7, 7, True)


def test_a_part_is_scaled_up_and_never_below_what_was_found() -> None:
    found = estimate([10, 12, 8, 10], 256)

    assert found.size == 2560
    assert 40 <= found.low < 2560 < found.high
    assert not found.exact


def test_nothing_found_in_a_part_does_not_mean_that_there_is_nothing() -> None:
    found = estimate([0, 0, 0], 256)

    assert (found.size, found.low) == (0, 0)
    assert found.high > 100


def test_nothing_looked_at_is_nothing_known() -> None:
    with pytest.raises(ValueError, match="nothing was looked at"):
        estimate([], 256)


@pytest.mark.parametrize("looked_at", [4, 16, 64, 200])
def test_the_bounds_hold_about_as_often_as_they_say(looked_at: int) -> None:
    dice = random.Random(looked_at)
    held = 0
    for _ in range(400):
        buckets = [sum(dice.random() < 0.1 for _ in range(40)) for _ in range(256)]
        found = estimate(dice.sample(buckets, looked_at), 256)
        held += found.low <= sum(buckets) <= found.high

    assert held >= 0.92 * 400
