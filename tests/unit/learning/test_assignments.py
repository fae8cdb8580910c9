"""Arms that are drawn by hash within the shares of changing policies, held against what is recorded of them."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from scipy import stats

from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arm_choice import arm_salt, choose
from orchestrator.domain.draw import drawn
from orchestrator.domain.holdout import Holdout
from orchestrator.learning.arm_rules import ArmRule
from orchestrator.learning.policy import learned
from orchestrator.learning.sample_ratio import Assigned, sample_ratio_of_arms
from orchestrator.learning.triangle import Cell, CohortTriangle
from tests.unit.learning.inverse_propensities import inverse_propensities

ARMS = "abc"
SALT = arm_salt("default", "welcome", "best")


def test_who_was_drawn_is_as_recorded_though_policies_change_and_arms_are_closed_to_some() -> None:
    rules = [ArmRule(arm_id=arm_id) for arm_id in ARMS]
    groups: dict[tuple[int, ...], Counter[str]] = defaultdict(Counter)
    for day in range(20):
        cells = [
            Cell(arm_id=arm_id, age=age, lag=lag, subjects=10 + (place if lag == 1 else 80))
            for place, arm_id in enumerate(ARMS)
            for age in range(1, 2 * day)
            for lag in (None, 1)
        ]
        shares = learned(CohortTriangle.of(ARMS, 7, cells), rules).shares
        for number in range(300):
            subject = f"user:{day}:{number}"
            open_arms = ARMS if number % 3 else "ab"
            choice = choose(shares, open_arms, salt=SALT, unit=subject)
            groups[tuple(choice.propensities.get(arm_id, 0) for arm_id in ARMS)][choice.arm_id] += 1
    assigned = [
        Assigned(propensities_ppm=ppm, subjects=tuple(counts[arm_id] for arm_id in ARMS))
        for ppm, counts in groups.items()
    ]

    ratio = sample_ratio_of_arms(assigned)

    assert len(groups) > 10
    assert ratio is not None
    assert (ratio.freedom, ratio.alarm) == (2, False)
    for place in range(len(ARMS)):
        mean, error = inverse_propensities(assigned, place) or (0, 0)
        assert abs(mean - 1) < 3.5 * error
    shifted = [Assigned(propensities_ppm=each.propensities_ppm[::-1], subjects=each.subjects) for each in assigned]
    wrong = sample_ratio_of_arms([each for each in shifted if min(each.propensities_ppm) > 0])
    assert wrong is not None
    assert wrong.alarm


def test_draws_fill_all_of_the_range_alike_and_holdouts_say_nothing_about_arms() -> None:
    subjects = [f"subject-{number}" for number in range(50_000)]
    places = np.array([drawn(SALT, subject) * 100 >> 64 for subject in subjects])
    holdout = Holdout(percent=10)
    held = np.array([holdout.has(subject, "holdout/default/welcome") for subject in subjects])

    assert stats.chisquare(np.bincount(places, minlength=100)).pvalue > 0.001
    table = [
        [int((held & (places // 25 == part)).sum()), int((~held & (places // 25 == part)).sum())] for part in range(4)
    ]
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert abs(held.sum() - 5000) < 4 * np.sqrt(4500)


def test_the_topmost_draw_falls_to_the_last_arm() -> None:
    """2^64 − 1 divided by 2^64 is 1.0 in a float, and below a million in whole numbers."""
    assert (2**64 - 1) * WHOLE >> 64 == WHOLE - 1
