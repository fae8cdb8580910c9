"""Shares in whole millionths that add up exactly."""

from __future__ import annotations

from collections.abc import Mapping

#: Shares are counted in millionths.
WHOLE = 1_000_000


def apportioned(weights: Mapping[str, int], whole: int = WHOLE) -> dict[str, int]:
    """`whole` divided in proportion to `weights`, by largest remainder; equal remainders in the order of the names.

    In integers, so the same everywhere. What has no weight gets nothing. Raises ValueError when nothing has any, or
    when a weight is negative.
    """
    total = sum(weights.values())
    if total <= 0 or min(weights.values()) < 0:
        raise ValueError("weights must not be negative, and one of them must be positive")
    shares = {name: weight * whole // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(weights[name] * whole % total), name))
    for name in by_remainder[: whole - sum(shares.values())]:
        shares[name] += 1
    return shares
