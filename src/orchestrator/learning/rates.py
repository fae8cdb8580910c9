"""Beta distributions of rates."""

from __future__ import annotations

import numpy as np

from orchestrator.learning.arrays import Floats


def cdf(alpha: Floats, beta: Floats, x: Floats) -> Floats:
    from scipy.special import betainc  # scipy takes long to import: see the package

    return np.asarray(betainc(alpha, beta, x), dtype=np.float64)


def quantile(alpha: Floats, beta: Floats, p: Floats | float) -> Floats:
    from scipy.special import betaincinv

    return np.asarray(betaincinv(alpha, beta, p), dtype=np.float64)


def interval95(conversions: float, subjects: float) -> tuple[float, float]:
    """The equal-tailed 95 % credible interval of a rate, from the uniform prior. Raises ValueError when more converted
    than there were.
    """
    if not 0 <= conversions <= subjects:
        raise ValueError("conversions are between 0 and the subjects")
    alpha, beta = np.float64(1 + conversions), np.float64(1 + subjects - conversions)
    low, high = quantile(np.asarray(alpha), np.asarray(beta), np.array([0.025, 0.975]))
    return float(low), float(high)
