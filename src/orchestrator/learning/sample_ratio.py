"""Whether as many subjects came to each side as its share says: the alarm that something selects among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

#: Below this probability the alarm goes off.
ALARM = 0.001
#: Counts of a smaller variance are not looked at: they are too far from a normal distribution.
LEAST_VARIANCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """`statistic` is of χ² with `freedom` degrees, if all is well; `p_value`: that chance makes one as large."""

    statistic: float
    freedom: int
    p_value: float

    @property
    def alarm(self) -> bool:
        return self.p_value < ALARM


def sample_ratio(exposed: int, holdout: int, holdout_share: float) -> SampleRatio | None:
    """Of two sides; None when too few have come, or there is no share to compare with."""
    expected = (exposed + holdout) * holdout_share
    if not 0 < holdout_share < 1 or expected * (1 - holdout_share) < LEAST_VARIANCE:
        return None
    statistic = (holdout - expected) ** 2 / (expected * (1 - holdout_share))
    return SampleRatio(statistic=statistic, freedom=1, p_value=math.erfc(math.sqrt(statistic / 2)))


def all_together(ratios: Sequence[SampleRatio]) -> SampleRatio | None:
    """Of strata that came about independently: a sum of χ² is χ², with as many degrees as all have."""
    if len(ratios) < 2:
        return ratios[0] if ratios else None
    from scipy.special import chdtrc  # scipy takes long to import: see the package

    statistic, freedom = sum(one.statistic for one in ratios), sum(one.freedom for one in ratios)
    return SampleRatio(statistic=statistic, freedom=freedom, p_value=float(chdtrc(freedom, statistic)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """Subjects who were assigned with the same propensities: those of the arms in a fixed order, in millionths, and how
    many went by each.
    """

    propensities_ppm: tuple[int, ...]
    subjects: tuple[int, ...]


def sample_ratio_of_arms(groups: Iterable[Assigned]) -> SampleRatio | None:
    """Whether arms were given out as the recorded propensities say, however these changed. None when too few had a
    choice.

    Q = (O − E)ᵀ V⁻ (O − E), with E the sum of the propensities and V that of their covariances. V is singular, since
    the counts of arms between which anybody had a choice add up: of such arms one says nothing new and is left out, as
    are those that hardly anybody was expected to go by.
    """
    groups = list(groups)
    if not groups:
        return None
    propensities = np.array([group.propensities_ppm for group in groups]) / 1e6
    counts = np.array([group.subjects for group in groups])
    number = counts.sum(axis=1)
    off = counts.sum(axis=0) - number @ propensities
    weighted = propensities * number[:, None]
    together = weighted.T @ propensities
    variance = np.diag(weighted.sum(axis=0)) - together
    kept = [arm for arm in _but_one_of_each((together > 0).tolist()) if variance[arm, arm] >= LEAST_VARIANCE]
    freedom = len(kept)
    impossible = bool((counts[propensities == 0] > 0).any())
    if impossible:
        return SampleRatio(statistic=math.inf, freedom=freedom, p_value=0.0)
    if freedom == 0:
        return None
    from scipy.special import chdtrc  # scipy takes long to import: see the package

    statistic = float(off[kept] @ np.linalg.solve(variance[np.ix_(kept, kept)], off[kept]))
    return SampleRatio(statistic=statistic, freedom=freedom, p_value=float(chdtrc(freedom, statistic)))


def _but_one_of_each(together: Sequence[Sequence[bool]]) -> list[int]:
    """The places of all arms but one (the first) of each set that hangs together by choices between two of them."""
    kept, seen = [], set[int]()
    for first in range(len(together)):
        if first in seen:
            continue
        seen.add(first)
        reached = [first]
        for arm in reached:
            new = [other for other, is_so in enumerate(together[arm]) if is_so and other not in seen]
            seen.update(new)
            reached += new
        kept += reached[1:]
    return kept
