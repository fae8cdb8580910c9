"""Whom a holdout has, and how many of those who come."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.domain.holdout import GLOBAL, JOURNEY, Holdout, held_out_by, share_against_exposed

TENTH, HALF = Holdout(percent=10), Holdout(percent=50)


@pytest.mark.parametrize(
    ("of_project", "of_journey"),
    [
        (None, HALF),
        (TENTH, None),
        (TENTH, HALF),
        (Holdout(percent=10, salt="one"), Holdout(percent=50, salt="one")),
        (Holdout(percent=50, salt="one"), Holdout(percent=10, salt="one")),
        (Holdout(percent=10, salt="one"), Holdout(percent=50, salt="other")),
        (Holdout(percent=10, salt="holdout/default/welcome"), HALF),
    ],
)
def test_the_share_is_that_by_which_subjects_come_to_their_sides(
    of_project: Holdout | None, of_journey: Holdout | None
) -> None:
    whose = {"project_id": "default", "journey_id": "welcome"}
    sides = Counter(held_out_by(of_project, of_journey, subject_id=f"s{number}", **whose) for number in range(20_000))

    for side in (GLOBAL, JOURNEY):
        share = share_against_exposed(side, of_project, of_journey, **whose)
        both = sides[side] + sides[None]
        assert abs(sides[side] - both * share) <= 4 * (both * share * (1 - share)) ** 0.5


def test_of_one_salt_the_smaller_lies_within_the_larger_and_is_the_projects() -> None:
    small, large = Holdout(percent=10, salt="one"), Holdout(percent=50, salt="one")
    whose = {"project_id": "default", "journey_id": "welcome"}

    assert share_against_exposed(JOURNEY, small, large, **whose) == pytest.approx(40 / 90)
    assert share_against_exposed(JOURNEY, large, small, **whose) == 0
    assert share_against_exposed(GLOBAL, small, large, **whose) == pytest.approx(10 / 60)
    assert share_against_exposed(JOURNEY, Holdout(percent=100), Holdout(percent=100), **whose) == 0
