from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.apportionment import WHOLE, apportioned
from orchestrator.domain.arm_choice import ArmShare, ChoiceReason, arm_salt, choose
from orchestrator.domain.draw import drawn, hashed

SALT = arm_salt("default", "welcome", "best-offer")


def share(arm_id: str, ppm: int, reason: ChoiceReason = ChoiceReason.THOMPSON, *, paused: bool = False) -> ArmShare:
    return ArmShare(arm_id=arm_id, ppm=ppm, reason=reason, paused=paused)


SHARES = (share("a", 100_000, ChoiceReason.FORCED), share("b", 20_000, ChoiceReason.FLOOR_ONLY), share("c", 880_000))


@pytest.mark.parametrize(
    ("label", "expected"),
    [("t1|holdout|h1|subj-1", 0.833451659098549), ("t1|arm|j1:n1:v1|subj-1", 0.6915535198838793)],
)
def test_a_hash_is_the_place_that_others_compute_from_the_same_text(label: str, expected: float) -> None:
    assert hashed(label) / 2**64 == expected


def test_nobody_is_ever_moved_by_a_change_of_this_program() -> None:
    chosen = [choose(SHARES, "abc", salt=SALT, unit=f"subject-{number}").arm_id for number in range(24)]

    assert SALT == "arm/default/welcome/best-offer"
    assert drawn(SALT, "subject-0") == hashed("arm/default/welcome/best-offer\0subject-0")
    assert "".join(chosen) == "ccccccccacccccccccaccaca"


def test_each_arm_is_chosen_as_often_as_is_recorded() -> None:
    many = 20_000
    counts = Counter(choose(SHARES, "abc", salt=SALT, unit=f"user:{number}").arm_id for number in range(many))

    for some in SHARES:
        expected = many * some.ppm / WHOLE
        assert abs(counts[some.arm_id] - expected) < 5 * sqrt(expected)


@pytest.mark.parametrize(
    ("shares", "open_arms", "propensities", "reasons"),
    [
        (SHARES, "abc", {"a": 100_000, "b": 20_000, "c": 880_000}, {"forced", "floor_only", "thompson"}),
        (SHARES, "bc", {"b": 22_222, "c": 977_778}, {"floor_only", "thompson"}),
        (SHARES, "c", {"c": WHOLE}, {"single_arm"}),
        # What is not forced is divided by three: a third to the newcomer, the rest in the old ratio.
        (
            SHARES,
            "abcd",
            {"a": 100_000, "b": 13_333, "c": 586_667, "d": 300_000},
            {"forced", "floor_only", "cold_start", "thompson"},
        ),
        ((share("a", 0, paused=True), share("b", WHOLE)), "ab", {"a": 0, "b": WHOLE}, {"thompson"}),
        ((share("a", 0), share("b", WHOLE, ChoiceReason.FORCED)), "ab", {"a": 0, "b": WHOLE}, {"forced"}),
        ((share("a", 0), share("b", WHOLE, ChoiceReason.FORCED)), "abc", {"a": 0, "b": WHOLE, "c": 0}, {"forced"}),
        # The arm that all are pinned to is closed to this subject.
        (
            (share("a", 0), share("b", 0), share("c", WHOLE, ChoiceReason.FORCED)),
            "ab",
            {"a": 500_000, "b": 500_000},
            {"fallback"},
        ),
        (None, "abc", {"a": 333_334, "b": 333_333, "c": 333_333}, {"fallback"}),
        ((), "ab", {"a": 500_000, "b": 500_000}, {"fallback"}),
        ((share("a", 3), share("b", 4)), "ab", {"a": 500_000, "b": 500_000}, {"fallback"}),
        ((share("a", -1), share("b", WHOLE + 1)), "ab", {"a": 500_000, "b": 500_000}, {"fallback"}),
        ((share("x", WHOLE),), "ab", {"a": 500_000, "b": 500_000}, {"fallback"}),
    ],
)
def test_arms_that_are_closed_or_new_change_the_propensities_and_these_are_exact(
    shares: tuple[ArmShare, ...] | None, open_arms: str, propensities: dict[str, int], reasons: set[str]
) -> None:
    choices = [choose(shares, open_arms, salt=SALT, unit=f"user:{number}") for number in range(100)]

    shown = {arm_id: ppm for arm_id, ppm in choices[0].propensities.items() if ppm}
    assert shown == {arm_id: ppm for arm_id, ppm in propensities.items() if ppm}
    assert {choice.arm_id for choice in choices} <= set(shown)
    assert all(choice.propensity_ppm == propensities[choice.arm_id] for choice in choices)
    assert {str(choice.reason) for choice in choices} <= reasons


def test_without_an_open_arm_there_is_nothing_to_choose() -> None:
    with pytest.raises(ValueError, match="no arm is open"):
        choose(SHARES, (), salt=SALT, unit="user")


NAMES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 10**12), min_size=1, max_size=20)


@given(NAMES, st.integers(1, 2_000_000))
def test_shares_add_up_and_none_is_off_by_a_whole_one(weights: dict[str, int], whole: int) -> None:
    total = sum(weights.values())
    if total == 0:
        with pytest.raises(ValueError, match="positive"):
            apportioned(weights, whole)
        return

    shares = apportioned(weights, whole)

    assert sum(shares.values()) == whole
    assert all(abs(shares[name] * total - weights[name] * whole) < total for name in weights)
    assert shares == apportioned(dict(reversed(weights.items())), whole)


@given(st.lists(st.integers(0, WHOLE), min_size=1, max_size=6), st.sets(st.sampled_from("abcdefgh"), min_size=1))
def test_whatever_the_policy_is_an_open_arm_is_chosen(shares: list[int], open_arms: set[str]) -> None:
    if any(shares):
        of_whole = apportioned({str(place): ppm for place, ppm in enumerate(shares)})
        shares = list(of_whole.values())
    policy = [share(arm_id, ppm) for arm_id, ppm in zip("abcdef", shares, strict=False)]

    choice = choose(policy, open_arms, salt=SALT, unit="user")

    assert choice.arm_id in open_arms
    assert choice.propensity_ppm == choice.propensities[choice.arm_id] > 0
    assert sum(choice.propensities.values()) == WHOLE
