"""The policy of a branch without context: shares of its arms, and everything they came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.arm_choice import ArmShare, ChoiceReason
from orchestrator.learning.allocation import MOST_FOR_FLOORS, allocated
from orchestrator.learning.arm_rules import ArmRule, checked, in_millionths
from orchestrator.learning.arrays import Counts
from orchestrator.learning.best_arm import compared
from orchestrator.learning.delays import delays_of_arms, pooled_delays
from orchestrator.learning.posterior import DelayModel, evidence
from orchestrator.learning.triangle import CohortTriangle

#: Of the method. Raise it when the same counts would give other shares.
CODE_VERSION = 1

#: A new version is worth publishing when a share has moved by so many millionths …
WORTH_PPM = 5_000
#: … or when the last one is so old.
WORTH_AFTER = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRules:
    """How a branch learns. Raises ValueError when a rule is out of range.

    `min_share`: of each arm that learns, between 0 and 0.5. `half_life_days`: what is so old counts half; None: nothing
    fades. `prior_alpha`, `prior_beta`: of the rates. `delay_shrinkage`: so many conversions draw an arm's delays to
    those of all. `cold_start_total`, `cold_start_each`: matured equivalents. `grace_days`: so long may events take to
    come in.
    """

    delay_model: DelayModel = DelayModel.FRACTIONAL_PER_ARM
    min_share: float = 0.02
    half_life_days: float | None = None
    prior_alpha: float = 1.0
    prior_beta: float = 1.0
    delay_shrinkage: float = 20.0
    cold_start_total: float = 200.0
    cold_start_each: float = 30.0
    grace_days: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.min_share <= MOST_FOR_FLOORS:
            raise ValueError(f"min_share is between 0 and {MOST_FOR_FLOORS}")
        positive = (self.prior_alpha, self.prior_beta, self.delay_shrinkage, self.half_life_days or 1.0)
        if not all(math.isfinite(number) and number > 0 for number in positive) or self.half_life_days == 0:
            raise ValueError("priors, delay_shrinkage and half_life_days are above 0")
        starts = (self.cold_start_total, self.cold_start_each)
        if not all(math.isfinite(number) and number >= 0 for number in starts) or not 0 <= self.grace_days <= 30:
            raise ValueError("a cold start is not negative, and grace_days are between 0 and 30")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPolicy:
    """`assigned`, `matured`, `converted`: as counted, the last of all cohorts. `equivalents`, `conversions`: those by
    which the shares were set. `prob_best` and `expected_loss` compare the arms that are neither paused nor in their
    cold start, and are None for others: of an arm without evidence they would tell the prior.
    """

    arm_id: str
    ppm: int
    reason: ChoiceReason
    paused: bool
    assigned: int
    matured: int
    converted: int
    equivalents: float
    conversions: float
    alpha: float
    beta: float
    prob_best: float | None
    expected_loss: float | None
    delays: tuple[float, ...]

    @property
    def share(self) -> ArmShare:
        return ArmShare(arm_id=self.arm_id, ppm=self.ppm, reason=self.reason, paused=self.paused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`learned` of the triangle with `fingerprint`, `arm_rules` and `rules` is equal to this. Arms are in the order of
    their ids; their shares add up to a million.
    """

    arms: tuple[ArmPolicy, ...]
    rules: PolicyRules
    arm_rules: tuple[ArmRule, ...]
    pooled_delays: tuple[float, ...]
    fingerprint: str
    code_version: int = CODE_VERSION

    @property
    def shares(self) -> tuple[ArmShare, ...]:
        return tuple(arm.share for arm in self.arms)


def learned(triangle: CohortTriangle, arm_rules: Sequence[ArmRule], rules: PolicyRules | None = None) -> Policy:
    """The policy that these counts give. Arms that the triangle does not have are new; those only it has are gone, and
    tell about delays only.

    Raises ValueError when an arm is named twice, when all are paused, or when fixed shares are more than there is.
    """
    rules = rules or PolicyRules()
    arm_rules = checked(arm_rules)
    assigned, converted = _of_arms(triangle, arm_rules)
    known = evidence(
        assigned,
        converted,
        model=rules.delay_model,
        delay_shrinkage=rules.delay_shrinkage,
        grace_days=rules.grace_days,
        half_life_days=rules.half_life_days,
    )
    learning = np.array([rule.learns for rule in arm_rules] + [False] * (len(assigned) - len(arm_rules)))
    shares, weights, cold = allocated(
        known,
        learning,
        prior=(rules.prior_alpha, rules.prior_beta),
        min_share=rules.min_share,
        cold_start_total=rules.cold_start_total,
        cold_start_each=rules.cold_start_each,
    )
    ppm = in_millionths(arm_rules, shares.tolist())
    alpha, beta = known.parameters(rules.prior_alpha, rules.prior_beta)
    running = np.array([not rule.paused for rule in arm_rules] + [False] * (len(assigned) - len(arm_rules)))
    known_of = running & ~cold & (known.gathered >= rules.cold_start_each)
    comparison = compared(alpha, beta, known_of)

    matures = triangle.window_days + rules.grace_days
    of_matured = converted[:, matures:].sum(axis=1)
    delays = delays_of_arms(of_matured, rules.delay_shrinkage).tolist()
    arms = tuple(
        ArmPolicy(
            arm_id=rule.arm_id,
            ppm=ppm[rule.arm_id],
            reason=_reason(rule, cold=bool(cold[at]), weight=float(weights[at])),
            paused=rule.paused,
            assigned=int(assigned[at].sum()),
            matured=int(assigned[at, matures:].sum()),
            converted=int(converted[at].sum()),
            equivalents=float(known.subjects[at]),
            conversions=float(known.conversions[at]),
            alpha=float(alpha[at]),
            beta=float(beta[at]),
            prob_best=float(comparison.prob_best[at]) if known_of[at] else None,
            expected_loss=float(comparison.expected_loss[at]) if known_of[at] else None,
            delays=tuple(delays[at]),
        )
        for at, rule in enumerate(arm_rules)
    )
    return Policy(
        arms=arms,
        rules=rules,
        arm_rules=arm_rules,
        pooled_delays=tuple(pooled_delays(of_matured).tolist()),
        fingerprint=triangle.fingerprint(),
    )


def worth_publishing(new: Policy, published: Policy | None, age: timedelta) -> bool:
    """Whether `new` is to take the place of what was published `age` ago (None: nothing was)."""
    if published is None or age >= WORTH_AFTER:
        return True
    if (new.rules, new.arm_rules) != (published.rules, published.arm_rules):
        return True
    pairs = zip(new.arms, published.arms, strict=True)
    return any(abs(arm.ppm - before.ppm) >= WORTH_PPM for arm, before in pairs)


def _of_arms(triangle: CohortTriangle, arm_rules: Sequence[ArmRule]) -> tuple[Counts, Counts]:
    """The counts in the order of the rules; after them those of arms that are gone."""
    places = {arm_id: place for place, arm_id in enumerate(triangle.arm_ids)}
    rows = [places.pop(rule.arm_id, None) for rule in arm_rules]
    empty = np.zeros_like(triangle.assigned[:1]), np.zeros_like(triangle.converted[:1])
    if not triangle.arm_ids:
        ages = triangle.assigned.shape[1]
        empty = np.zeros((1, ages), np.int64), np.zeros((1, ages, triangle.window_days + 1), np.int64)
    order = [*rows, *places.values()]
    return (
        np.concatenate([empty[0] if row is None else triangle.assigned[row : row + 1] for row in order]),
        np.concatenate([empty[1] if row is None else triangle.converted[row : row + 1] for row in order]),
    )


def _reason(rule: ArmRule, *, cold: bool, weight: float) -> ChoiceReason:
    if not rule.learns:
        return ChoiceReason.FORCED
    if cold:
        return ChoiceReason.COLD_START
    return ChoiceReason.THOMPSON if weight >= 1 / WHOLE else ChoiceReason.FLOOR_ONLY
