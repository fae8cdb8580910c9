"""How long conversions take: which part of those within the window has come after so many days."""

from __future__ import annotations

import numpy as np

from orchestrator.learning.arrays import Counts, Floats


def pooled_delays(converted: Counts) -> Floats:
    """F(d) of all arms together: (..., arms, lags) to (..., lags), with one conversion more at each lag.

    Take matured cohorts only: in others long delays have not been seen yet.
    """
    by_lag = converted.sum(axis=-2) + 1.0
    cumulated = np.cumsum(by_lag, axis=-1)
    return np.asarray(cumulated / cumulated[..., -1:], dtype=np.float64)


def delays_of_arms(converted: Counts, shrinkage: float) -> Floats:
    """F(d) of each arm: (..., arms, lags). Drawn towards the pooled one as by `shrinkage` conversions of its shape.

    An arm whose conversions come late would seem worse than it is by the delays of all.
    """
    pooled = pooled_delays(converted)
    cumulated = np.cumsum(converted, axis=-1)
    shrunk = (cumulated + shrinkage * pooled[..., None, :]) / (cumulated[..., -1:] + shrinkage)
    return np.asarray(shrunk, dtype=np.float64)
