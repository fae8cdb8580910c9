"""A second look at assignments, which the product's own (`sample_ratio_of_arms`) is held against."""

from __future__ import annotations

import math
from collections.abc import Iterable

from orchestrator.learning.sample_ratio import Assigned


def inverse_propensities(groups: Iterable[Assigned], arm: int) -> tuple[float, float] | None:
    """The mean, over all subjects to whom the arm was open, of 1/p for those who went by it and 0 for others, and its
    standard error: 1, if the propensities are what they are said to be. None when it was open to nobody.
    """
    open_to = [group for group in groups if group.propensities_ppm[arm] > 0]
    total = sum(sum(group.subjects) for group in open_to)
    if total == 0:
        return None
    values = [(1e6 / group.propensities_ppm[arm], group.subjects[arm]) for group in open_to]
    mean = sum(value * count for value, count in values) / total
    square = sum(value * value * count for value, count in values) / total
    return mean, math.sqrt(max(square - mean * mean, 0.0) / total)
