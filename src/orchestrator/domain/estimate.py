"""How many there are, from how many were found among some of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: 97.5 % of a normal distribution lie below this many standard deviations.
_Z = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """`low` and `high` are the bounds of a 95 % interval; all three are equal where everybody was looked at."""

    size: int
    low: int
    high: int
    exact: bool


def estimate(found: Sequence[int], buckets: int) -> Estimate:
    """The total over `buckets` buckets, of which those looked at held these numbers (an empty one holds 0).

    Subjects fall into buckets by a hash, so that those looked at are a simple random sample of clusters: the total is
    N · mean, its variance N² · (1 − n/N) · s²/n (Cochran, Sampling Techniques, 3rd ed., 2.5 and 2.6). With few buckets
    the spread between them is known badly; counts that spread no more than chance makes them have Poisson's variance at
    least, so the larger of the two is taken.
    """
    looked_at = len(found)
    total = sum(found)
    if looked_at >= buckets:
        return Estimate(size=total, low=total, high=total, exact=True)
    if looked_at == 0:
        raise ValueError("nothing was looked at")
    mean = total / looked_at
    spread = sum((count - mean) ** 2 for count in found) / (looked_at - 1) if looked_at > 1 else 0.0
    variance = max(spread, mean, 1.0) / looked_at * (1 - looked_at / buckets)
    margin = _Z * buckets * math.sqrt(variance)
    size = round(buckets * mean)
    return Estimate(
        size=size, low=max(total, math.floor(size - margin)), high=max(total, math.ceil(size + margin)), exact=False
    )
