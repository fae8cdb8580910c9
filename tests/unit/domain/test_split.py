from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.journey import Split, SplitArm
from orchestrator.domain.split import arm_of

MANY = 100_000


def split(*weights: int, salt: str | None = None, step_id: str = "half") -> Split:
    arms = tuple(SplitArm(id=f"arm{place}", weight=weight, next="end") for place, weight in enumerate(weights))
    return Split(id=step_id, arms=arms, salt=salt)


def place_of(some: Split, subject_id: str, journey_id: str = "welcome") -> int:
    return some.arms.index(arm_of(some, journey_id, subject_id))


@pytest.mark.parametrize(
    ("some", "expected"),
    [
        (split(1, 1), "100011001001"),
        (split(1, 1, salt="spring"), "101001010101"),
        (split(5, 3, 2), "200011002001"),
        (split(1, 1_000_000), "111111111111"),
        (split(7), "000000000000"),
    ],
    ids=["halves", "halves of a salt", "three", "hardly anybody", "everybody"],
)
def test_nobody_is_ever_moved_by_a_change_of_this_program(some: Split, expected: str) -> None:
    assert "".join(str(place_of(some, f"subject-{number}")) for number in range(12)) == expected


def test_each_arm_takes_its_share() -> None:
    weights = (1, 9, 40, 50)
    some = split(*weights)

    counts = Counter(place_of(some, f"user:{number}") for number in range(MANY))

    for place, weight in enumerate(weights):
        share = weight / sum(weights)
        # Five standard deviations: what is fair is beyond them once in two million tries.
        assert abs(counts[place] - MANY * share) < 5 * sqrt(MANY * share * (1 - share))


def test_splits_divide_independently_unless_they_share_a_salt() -> None:
    one, other = split(1, 1, step_id="one"), split(1, 1, step_id="other")
    salted, alike = split(1, 1, step_id="one", salt="s"), split(1, 1, step_id="other", salt="s")
    ids = [f"user:{number}" for number in range(10_000)]

    together = sum(place_of(one, subject_id) == place_of(other, subject_id) for subject_id in ids)

    assert 4_750 < together < 5_250
    assert [place_of(salted, subject_id) for subject_id in ids] == [
        place_of(alike, subject_id, "another journey") for subject_id in ids
    ]
    assert any(place_of(one, subject_id) != place_of(one, subject_id, "another journey") for subject_id in ids)


WEIGHTS = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=50)


@given(WEIGHTS, st.data(), st.text(min_size=1, max_size=128))
def test_when_a_weight_grows_subjects_move_towards_its_arm_and_not_beyond(
    weights: list[int], data: st.DataObject, subject_id: str
) -> None:
    growing = data.draw(st.integers(0, len(weights) - 1))
    grown = [*weights]
    grown[growing] += data.draw(st.integers(1, 1_000_000))

    before, after = place_of(split(*weights), subject_id), place_of(split(*grown), subject_id)

    assert before <= after <= growing or growing <= after <= before


@given(WEIGHTS, st.text(max_size=128), st.integers(1, 1000))
def test_only_the_proportion_of_weights_counts(weights: list[int], subject_id: str, factor: int) -> None:
    times = [weight * factor for weight in weights]

    assert place_of(split(*weights), subject_id) == place_of(split(*times), subject_id)
