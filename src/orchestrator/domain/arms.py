"""Choosing the arm of a step that learns, as production and simulations do it alike: by the policy in force, under the
rules of the version that an execution is on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.domain.apportionment import WHOLE, apportioned
from orchestrator.domain.arm_choice import ArmChoice, ArmShare, ChoiceReason, arm_salt, choose, given_arm_salt
from orchestrator.domain.journey import AdaptiveArm, AdaptiveStep, NbaDecision, Stickiness
from orchestrator.predicates.paths import find, join_path

#: Longer texts tell nothing that an arm could be chosen by.
MAX_CONTEXT_TEXT = 256

#: Of a context and the arms that are open: their shares. None: it comes to nothing, as if there were no policy.
SharesOf: TypeAlias = Callable[[Mapping[str, object], Collection[str]], tuple[ArmShare, ...] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The policy by which a branch is chosen from now."""

    policy_version: int
    shares_of: SharesOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """For whom is chosen. `entry_key` tells the execution from the subject's others of its journey."""

    project_id: str
    journey_id: str
    subject_id: str
    entry_key: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is recorded of a choice. `policy_version` None: there was none; `context` None: nothing is looked at."""

    choice: ArmChoice
    policy_version: int | None
    context: Mapping[str, object] | None


def open_arms(step: AdaptiveStep) -> list[str]:
    """Those that somebody may go by."""
    return [arm.id for arm in step.arms if not arm.paused]


def choose_arm(step: AdaptiveStep, in_force: InForce | None, chooser: Chooser, round_no: int = 0) -> Chosen:
    """The arm for somebody who comes to the step: the same one whenever the same is asked.

    `round_no` counts how often this was chosen before; whose last arm is open no more is drawn for anew, or all who
    were by that arm would go by the same one next.
    """
    unit = chooser.subject_id
    if step.stickiness is Stickiness.VISIT:
        unit = f"{unit}/{chooser.entry_key}"
    if round_no:
        unit = f"{unit}#{round_no}"
    context = context_of(step, chooser.attributes) if isinstance(step, NbaDecision) else None
    opened = open_arms(step)
    learned = in_force.shares_of(context or {}, opened) if in_force is not None else None
    salt = (
        given_arm_salt(step.salt)
        if step.salt is not None
        else arm_salt(chooser.project_id, chooser.journey_id, step.id)
    )
    choice = choose(ruled(learned, step.arms), opened, salt=salt, unit=unit)
    used = in_force.policy_version if in_force is not None and learned is not None else None
    return Chosen(choice=choice, policy_version=used, context=context)


def context_of(step: NbaDecision, attributes: Mapping[str, Any]) -> dict[str, object]:
    """What the step looks at: the texts, numbers and booleans at its paths, by path; anything else is missing."""
    context: dict[str, object] = {}
    for path in step.context:
        value = find(attributes, path, None)
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_CONTEXT_TEXT):
            context[join_path(path)] = value
    return context


def ruled(learned: Collection[ArmShare] | None, arms: Collection[AdaptiveArm]) -> tuple[ArmShare, ...]:
    """Shares of the arms that run, as they were learned where the version's rules, which may be newer, leave them be.

    Fixed shares are the version's; arms that learn divide the rest as the policy has it, and of those of which it knows
    nothing each gets an equal part. `learned` None: there is no policy, so all that learn are alike. They add up to a
    million; where nobody would get anything there are none.
    """
    running = [arm for arm in arms if not arm.paused]
    fixed = {arm.id: arm.share_ppm for arm in running if arm.share_ppm is not None}
    learning = [arm.id for arm in running if arm.share_ppm is None]
    known = {
        share.arm_id: share
        for share in learned or ()
        if share.arm_id in learning and share.reason is not ChoiceReason.FORCED and not share.paused
    }
    if not learning:
        ppm = apportioned(fixed) if any(fixed.values()) else {}
        return tuple(ArmShare(arm_id=arm_id, ppm=ppm[arm_id], reason=ChoiceReason.FORCED) for arm_id in sorted(ppm))
    taught = sum(share.ppm for share in known.values())
    # All weights are multiplied by the number of known arms, so as to stay whole.
    weights = {arm_id: known[arm_id].ppm * len(known) if arm_id in known else taught for arm_id in sorted(learning)}
    if not taught:
        weights = dict.fromkeys(weights, 1)
    unknown = ChoiceReason.FALLBACK if learned is None else ChoiceReason.COLD_START
    ppm = fixed | apportioned(weights, WHOLE - sum(fixed.values()))
    return tuple(
        ArmShare(
            arm_id=arm_id,
            ppm=ppm[arm_id],
            reason=ChoiceReason.FORCED
            if arm_id in fixed
            else known[arm_id].reason
            if arm_id in known and taught
            else unknown,
        )
        for arm_id in sorted(ppm)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The choice that holds for a subject, and how often was chosen before it."""

    arm_id: str
    round_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """By what arms are chosen where nothing is written: the policy in force and what holds for the subject, by step."""

    project_id: str
    policies: Mapping[str, InForce | None]
    held: Mapping[str, Held]

    def choose(self, step: AdaptiveStep, chooser: Chooser) -> tuple[str, Chosen | None]:
        """The arm that production would have: one that holds already, for which nothing is chosen, or another one."""
        held = self.held.get(step.id) if step.stickiness is Stickiness.SUBJECT else None
        if held is not None and held.arm_id in open_arms(step):
            return held.arm_id, None
        chosen = choose_arm(step, self.policies.get(step.id), chooser, held.round_no + 1 if held is not None else 0)
        return chosen.choice.arm_id, chosen
