"""Choosing arms by a policy under the rules of a version."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arm_choice import ArmShare, ChoiceReason
from orchestrator.domain.arms import Arms, Chooser, Held, InForce, choose_arm, context_of, ruled
from orchestrator.domain.holdout import Holdout
from orchestrator.domain.journey import AdaptiveArm, AdaptiveBranch, NbaDecision, Split, SplitArm, Stickiness
from orchestrator.domain.split import arm_of

ANN = Chooser(project_id="p", journey_id="j", subject_id="ann", entry_key="e-1", attributes={})


def arm(arm_id: str, share: float | None = None, *, paused: bool = False) -> AdaptiveArm:
    ppm = round(share * WHOLE) if share is not None else None
    return AdaptiveArm(id=arm_id, next="end", share_ppm=ppm, paused=paused)


def branch(*arms: AdaptiveArm, stickiness: Stickiness = Stickiness.SUBJECT) -> AdaptiveBranch:
    return AdaptiveBranch(id="s", arms=arms, stickiness=stickiness)


def learned(**ppm: int) -> tuple[ArmShare, ...]:
    return tuple(ArmShare(arm_id=name, ppm=share, reason=ChoiceReason.THOMPSON) for name, share in ppm.items())


def in_force(shares: tuple[ArmShare, ...] | None) -> InForce:
    return InForce(policy_version=3, shares_of=lambda context, opened: shares)


def told(shares: tuple[ArmShare, ...]) -> dict[str, tuple[int, str]]:
    return {share.arm_id: (share.ppm, share.reason.value) for share in shares}


def test_shares_stand_as_they_were_learned_where_the_rules_are_those_of_then() -> None:
    shares = (*learned(a=650_000, b=250_000), ArmShare(arm_id="c", ppm=100_000, reason=ChoiceReason.FORCED))

    assert ruled(shares, [arm("a"), arm("b"), arm("c", 0.1)]) == shares


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        # pinned by hand, whatever was learned
        ([arm("a"), arm("b", 1)], {"a": (0, "thompson"), "b": (WHOLE, "forced")}),
        # a control that is new takes from all that learn
        ([arm("a"), arm("b"), arm("c", 0.1)], {
            "a": (720_000, "thompson"), "b": (180_000, "thompson"), "c": (100_000, "forced"),
        }),
        # an arm that is new has an equal part
        ([arm("a"), arm("b"), arm("new")], {
            "a": (533_334, "thompson"), "b": (133_333, "thompson"), "new": (333_333, "cold_start"),
        }),
        # one that is gone, or paused, leaves its part to the others
        ([arm("a"), arm("new")], {"a": (500_000, "thompson"), "new": (500_000, "cold_start")}),
        ([arm("a", paused=True), arm("b")], {"b": (WHOLE, "thompson")}),
        # where nobody learns, shares are in proportion
        ([arm("a", 0.1), arm("b", 0.3)], {"a": (250_000, "forced"), "b": (750_000, "forced")}),
        ([arm("a", 0), arm("b", paused=True)], {}),
    ],
    ids=str,
)  # fmt: skip
def test_the_rules_of_the_version_come_before_the_policy(
    arms: list[AdaptiveArm], expected: dict[str, tuple[int, str]]
) -> None:
    assert told(ruled(learned(a=800_000, b=200_000), arms)) == expected


def test_an_arm_that_was_fixed_or_paused_has_not_been_learned_about() -> None:
    shares = (
        ArmShare(arm_id="a", ppm=900_000, reason=ChoiceReason.FORCED),
        *learned(b=100_000),
        ArmShare(arm_id="c", ppm=0, reason=ChoiceReason.THOMPSON, paused=True),
    )

    assert told(ruled(shares, [arm("a"), arm("b"), arm("c")])) == {
        "a": (333_334, "cold_start"), "b": (333_333, "thompson"), "c": (333_333, "cold_start"),
    }  # fmt: skip


def test_without_a_policy_fixed_shares_hold_and_the_others_are_alike() -> None:
    assert told(ruled(None, [arm("a"), arm("b"), arm("c", 0.5), arm("d", paused=True)])) == {
        "a": (250_000, "fallback"), "b": (250_000, "fallback"), "c": (500_000, "forced"),
    }  # fmt: skip


NAMES = st.sampled_from("abcde")
SHARES = st.lists(st.tuples(NAMES, st.integers(0, WHOLE), st.sampled_from(ChoiceReason), st.booleans()), max_size=5)
ARMS = st.dictionaries(NAMES, st.tuples(st.none() | st.integers(0, 200_000), st.booleans()), min_size=1)


@given(SHARES | st.none(), ARMS)
def test_shares_add_up_and_nobody_goes_by_a_paused_arm(
    known: list[tuple[str, int, ChoiceReason, bool]] | None, arms: dict[str, tuple[int | None, bool]]
) -> None:
    policy = None
    if known is not None:
        policy = [ArmShare(arm_id=name, ppm=ppm, reason=why, paused=off) for name, ppm, why, off in known]
    of = [AdaptiveArm(id=name, next="end", share_ppm=ppm, paused=off) for name, (ppm, off) in arms.items()]

    shares = ruled(policy, of)

    assert sum(share.ppm for share in shares) == (WHOLE if shares else 0)
    assert {share.arm_id for share in shares} <= {one.id for one in of if not one.paused}
    if any(one.learns for one in of):
        fixed = {one.id: one.share_ppm for one in of if one.share_ppm is not None and not one.paused}
        assert {share.arm_id: share.ppm for share in shares if share.reason is ChoiceReason.FORCED} == fixed
    if any(not one.paused for one in of):
        chosen = choose_arm(branch(*of), in_force(tuple(policy)) if policy is not None else None, ANN)
        assert sum(chosen.choice.propensities.values()) == WHOLE
        assert chosen.choice.propensity_ppm > 0


def test_a_choice_names_the_policy_only_where_it_was_of_use() -> None:
    assert choose_arm(branch(arm("a"), arm("b")), in_force(learned(a=WHOLE, b=0)), ANN).policy_version == 3
    broken = choose_arm(branch(arm("a"), arm("b")), in_force(None), ANN)
    assert (broken.policy_version, broken.choice.reason) == (None, ChoiceReason.FALLBACK)
    assert choose_arm(branch(arm("a"), arm("b")), None, ANN).policy_version is None


def test_a_choice_holds_for_the_subject_or_for_the_visit() -> None:
    def arms_of(step: AdaptiveBranch) -> list[str]:
        return [choose_arm(step, None, replace(ANN, entry_key=f"e-{n}")).choice.arm_id for n in range(40)]

    assert len(set(arms_of(branch(arm("a"), arm("b"))))) == 1
    assert set(arms_of(branch(arm("a"), arm("b"), stickiness=Stickiness.VISIT))) == {"a", "b"}


def test_who_is_drawn_for_again_is_drawn_for_anew() -> None:
    """Those who were by an arm that is closed divide as everybody else does."""
    step, found = branch(arm("a"), arm("b"), arm("c")), Counter[str]()
    for number in range(3_000):
        who = replace(ANN, subject_id=f"s{number}")
        if choose_arm(step, None, who).choice.arm_id == "a":
            found[choose_arm(branch(arm("a", paused=True), arm("b"), arm("c")), None, who, 1).choice.arm_id] += 1

    assert set(found) == {"b", "c"}
    assert abs(found["b"] - found["c"]) < 4 * sum(found.values()) ** 0.5


def test_what_is_looked_at_are_short_texts_numbers_and_booleans() -> None:
    step = NbaDecision(id="s", arms=(), context=(("plan", "name"), ("age",), ("vip",), ("tags",), ("note",), ("no",)))
    attributes = {"plan": {"name": "pro"}, "age": 41.5, "vip": False, "tags": ["a"], "note": "x" * 257, "no": None}

    assert context_of(step, attributes) == {"plan.name": "pro", "age": 41.5, "vip": False}


def test_a_simulation_goes_by_what_holds_and_draws_as_production_does() -> None:
    step = branch(arm("a"), arm("b"))
    drawn = choose_arm(step, None, ANN).choice.arm_id
    other = "b" if drawn == "a" else "a"
    nothing = Arms(project_id="p", policies={}, held={})

    assert nothing.choose(step, ANN)[0] == drawn
    held = replace(nothing, held={"s": Held(arm_id=other, round_no=0)})
    assert held.choose(step, ANN) == (other, None)
    closed = replace(nothing, held={"s": Held(arm_id="gone", round_no=4)})
    assert closed.choose(step, ANN) == (choose_arm(step, None, ANN, 5).choice.arm_id, choose_arm(step, None, ANN, 5))


def test_a_salt_that_a_holdout_and_a_split_have_too_leaves_arms_their_propensities() -> None:
    """Whom a holdout of the same salt leaves have drawn high there; that may say nothing about the arm."""
    step = replace(branch(arm("a", 0.25), arm("b", 0.75)), salt="spring")
    holdout = Holdout(percent=30, salt="spring")
    halves = tuple(SplitArm(id=name, weight=1, next=name) for name in "xy")
    split = Split(id="half", arms=halves, salt="spring")
    subject_ids = [f"user:{number}" for number in range(4000)]
    exposed = [who for who in subject_ids if not holdout.has(who, "")]
    second = [who for who in subject_ids if arm_of(split, "j", who).next == "y"]

    def went(who: str) -> str:
        return choose_arm(step, None, replace(ANN, subject_id=who)).choice.arm_id

    for some in (exposed, second):
        assert Counter(map(went, some))["a"] == pytest.approx(0.25 * len(some), abs=4 * (0.1875 * len(some)) ** 0.5)
    other = replace(step, id="other")
    assert all(went(who) == choose_arm(other, None, replace(ANN, subject_id=who)).choice.arm_id for who in exposed[:50])
