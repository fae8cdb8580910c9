"""Which arm is the best, how probably, and what choosing another costs: by quadrature, so the same every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.learning.arrays import Floats, Mask
from orchestrator.learning.rates import cdf, quantile

#: Points for each arm. The error is below 1e-6.
POINTS = 201
# What lies outside of these quantiles is left out.
_TAIL = 1e-10


@dataclass(frozen=True, slots=True)
class Comparison:
    """(..., arms) each. `expected_loss`: of always taking this arm, E[max θ] − E[θ]."""

    prob_best: Floats
    expected_loss: Floats


def compared(alpha: Floats, beta: Floats, among: Mask | None = None, *, points: int = POINTS) -> Comparison:
    """Of arms with rates of Beta(alpha, beta), (..., arms). Who is not `among` those compared is never the best.

    The integral over F of the product of the others' F, as a Stieltjes sum over a grid that has `points` for every arm,
    where its mass is; from the sum over the grid and the one over every second point the main error cancels out.
    """
    among = np.ones(alpha.shape, dtype=np.bool_) if among is None else among
    grid = _grid(alpha, beta, points)
    below = np.where(among[..., None], cdf(alpha[..., None], beta[..., None], grid[..., None, :]), 1.0)
    wins = np.maximum((4 * _wins(below) - _wins(below[..., ::2])) / 3, 0.0)
    total = wins.sum(axis=-1, keepdims=True)
    prob_best = np.divide(wins, total, out=np.zeros_like(wins), where=total > 0)

    above = 1 - below.prod(axis=-2)
    steps = grid[..., 2::2] - grid[..., :-2:2]
    simpson = (above[..., :-2:2] + 4 * above[..., 1::2] + above[..., 2::2]) * steps / 6
    highest = grid[..., 0] + simpson.sum(axis=-1)
    loss = np.maximum(highest[..., None] - alpha / (alpha + beta), 0.0)
    return Comparison(prob_best=prob_best, expected_loss=np.where(among, loss, 0.0))


def value_remaining(alpha: Floats, beta: Floats, best: int, *, confidence: float = 0.95) -> float:
    """By how much, relative to the rate of arm `best`, another could be better: with `confidence`, at most so much.

    (Scott, A modern Bayesian look at the multi-armed bandit, 2010.) `alpha`, `beta`: (arms,). At most 1,000.
    """
    low, high = quantile(alpha[best], beta[best], np.array([_TAIL, 1 - _TAIL]))
    at = np.linspace(low, high, 4001)
    weight = np.diff(cdf(alpha[best], beta[best], at))
    weight = weight / weight.sum()
    middle = (at[1:] + at[:-1]) / 2
    others = np.arange(len(alpha)) != best

    def chance(value: float) -> float:
        """That no other is better by more than `value`."""
        below = cdf(alpha[others, None], beta[others, None], np.minimum((1 + value) * middle, 1.0)[None, :])
        return float((weight * below.prod(axis=0)).sum())

    if not others.any() or chance(0.0) >= confidence:
        return 0.0
    lowest, highest = 0.0, 0.01
    while chance(highest) < confidence:
        if highest >= 1000:
            return 1000.0
        lowest, highest = highest, 2 * highest
    for _ in range(50):
        middling = (lowest + highest) / 2
        lowest, highest = (middling, highest) if chance(middling) < confidence else (lowest, middling)
    return highest


def _grid(alpha: Floats, beta: Floats, points: int) -> Floats:
    """Points for each arm over the range of its distribution, all of them in order, and one between any two."""
    low, high = quantile(alpha, beta, _TAIL), quantile(alpha, beta, 1 - _TAIL)
    each = low[..., None] + (high - low)[..., None] * np.linspace(0.0, 1.0, points)
    knots = np.sort(each.reshape(*alpha.shape[:-1], -1), axis=-1)
    grid = np.empty((*knots.shape[:-1], 2 * knots.shape[-1] - 1))
    grid[..., ::2] = knots
    grid[..., 1::2] = (knots[..., 1:] + knots[..., :-1]) / 2
    return grid


def _wins(below: Floats) -> Floats:
    """For each arm the sum over all steps of: it lies in the step, and all others below the step's middle."""
    steps = np.diff(below, axis=-1)
    middles = (below[..., 1:] + below[..., :-1]) / 2
    ones = np.ones((*middles.shape[:-2], 1, middles.shape[-1]))
    before = np.concatenate([ones, np.cumprod(middles, axis=-2)[..., :-1, :]], axis=-2)
    after = np.concatenate([np.cumprod(middles[..., ::-1, :], axis=-2)[..., -2::-1, :], ones], axis=-2)
    return np.asarray((before * after * steps).sum(axis=-1), dtype=np.float64)
