"""What is believed of arms by which shares are set: conversions, and subjects as far as they could have converted."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from orchestrator.learning.arrays import Counts, Floats
from orchestrator.learning.delays import delays_of_arms


class DelayModel(enum.StrEnum):
    #: A young subject counts as that part of a subject by which, as the arm's delays go, it would have converted.
    FRACTIONAL_PER_ARM = "fractional_per_arm"
    #: Subjects count when their window has passed, and so do their conversions.
    MATURED = "matured"


@dataclass(frozen=True, slots=True)
class Evidence:
    """(..., arms) each. `conversions` out of `subjects` in matured equivalents, both discounted by age; `gathered`: the
    subjects without discount."""

    conversions: Floats
    subjects: Floats
    gathered: Floats

    def parameters(self, prior_alpha: float, prior_beta: float) -> tuple[Floats, Floats]:
        """Of the Beta distributions of the rates."""
        failures = np.maximum(self.subjects - self.conversions, 0.0)
        return prior_alpha + self.conversions, prior_beta + failures


def evidence(
    assigned: Counts,
    converted: Counts,
    *,
    model: DelayModel,
    delay_shrinkage: float,
    grace_days: int,
    half_life_days: float | None,
) -> Evidence:
    """From `assigned` (..., arms, ages) and `converted` (..., arms, ages, lags), as a CohortTriangle has them.

    A cohort has matured when it is `grace_days` older than the window: so long may events take to come in.
    """
    ages = assigned.shape[-1]
    window = converted.shape[-1] - 1
    matures = min(window + grace_days, ages)
    age = np.arange(ages)
    weight = np.ones(ages) if half_life_days is None else np.exp2(-age / half_life_days)
    so_far = converted.sum(axis=-1)
    match model:
        case DelayModel.MATURED:
            counts = np.where(age >= matures, 1.0, 0.0) * np.ones(assigned.shape)
            so_far = so_far * counts
        case DelayModel.FRACTIONAL_PER_ARM:
            delays = delays_of_arms(converted[..., matures:, :].sum(axis=-2), delay_shrinkage)
            counts = delays[..., np.minimum(age, window)]
    equivalents = assigned * counts
    return Evidence(
        conversions=(so_far * weight).sum(axis=-1),
        subjects=(equivalents * weight).sum(axis=-1),
        gathered=equivalents.sum(axis=-1),
    )
