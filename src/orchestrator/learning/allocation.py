"""From what is believed of arms to the shares of subjects they get."""

from __future__ import annotations

import numpy as np

from orchestrator.learning.arrays import Floats, Mask
from orchestrator.learning.best_arm import POINTS, compared
from orchestrator.learning.posterior import Evidence

#: All floors together take at most this part: else a branch would hardly learn. More than that is cut down to it.
MOST_FOR_FLOORS = 0.5


def cold_arms(gathered: Floats, among: Mask, *, total: float, each: float) -> Mask:
    """Which of the arms `among` those that learn are in their cold start: (..., arms).

    That is an arm with fewer than `each` matured equivalents, and every arm as long as the others have fewer than
    `total` together. So a branch begins with equal shares, and an arm that comes later has its equal share while the
    others keep their ratio. Counted without discount: an arm that is hardly ever chosen does not become cold again.
    """
    cold = gathered < each
    known = np.where(among & ~cold, gathered, 0.0).sum(axis=-1, keepdims=True)
    return np.asarray(among & (cold | (known < total)), dtype=np.bool_)


def shares_of(prob_best: Floats, learning: Mask, cold: Mask, min_share: float) -> Floats:
    """The shares of what is left to arms that learn, (..., arms), adding up to 1 where any does.

    A cold arm has an equal share, any other `min_share` and, of the rest, as much as it is probably the best among
    those that are not cold. The floor is added, not cut to: cutting and dividing again would take from those above it.
    """
    arms = np.maximum(learning.sum(axis=-1, keepdims=True), 1)
    warm = learning & ~cold
    floor = np.minimum(min_share, MOST_FOR_FLOORS / arms)
    number_warm = warm.sum(axis=-1, keepdims=True)
    rest = number_warm / arms - number_warm * floor
    return np.where(cold, 1.0 / arms, 0.0) + np.where(warm, floor + rest * prob_best, 0.0)


def allocated(
    known: Evidence,
    learning: Mask,
    *,
    prior: tuple[float, float],
    min_share: float,
    cold_start_total: float,
    cold_start_each: float,
    points: int = POINTS,
) -> tuple[Floats, Floats, Mask]:
    """Thompson sampling in batches: the shares, the probabilities by which they were set, and which arms are cold.

    To draw an arm by the probability that it is the best is Thompson sampling.
    """
    cold = cold_arms(known.gathered, learning, total=cold_start_total, each=cold_start_each)
    alpha, beta = known.parameters(*prior)
    prob_best = compared(alpha, beta, learning & ~cold, points=points).prob_best
    return shares_of(prob_best, learning, cold, min_share), prob_best, cold
