"""Ratios that have become worse: of two records, whose times may come from different days and machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.rows import Row

#: By what factor a ratio may be worse, at least and at most, whatever its rounds were: one that is twice as bad is
#: always told, and a tenth never.
LEAST, MOST = 1.25, 1.9
#: Of a ratio whose rounds and swing nobody knows.
USUAL = 1.5
#: So many rounds say how much a ratio differs by itself.
_ENOUGH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Of a ratio: as it was committed, and now (None: it was not measured). `worse`: by what factor; 1 or less: it is
    not. `allowed`: up to what factor that is no more than it differs by itself.
    """

    name: str
    unit: str
    committed: float
    now: float | None
    worse: float
    allowed: float

    @property
    def is_regression(self) -> bool:
        return self.worse > self.allowed


def compared(committed: Sequence[Row], now: Sequence[Row]) -> list[Comparison]:
    """Every ratio of the committed rows. Times, rates and sizes are not looked at, and new rows have nothing to be
    compared with.
    """
    measured = {row.name: row for row in now}
    return [_compare(row, measured.get(row.name)) for row in committed if row.ratio is not None]


def better_of(first: Sequence[Comparison], second: Mapping[str, Comparison]) -> list[Comparison]:
    """Of what was measured twice, the better one: a neighbour on the machine makes nothing faster."""
    return [min(one, second.get(one.name, one), key=lambda each: each.worse) for one in first]


def allowed(row: Row) -> float:
    """The factor by which rounds of one run differ says how much runs do, or the row itself does."""
    if row.swing is not None:
        factor = row.swing
    elif len(row.rounds) >= _ENOUGH and min(row.rounds) > 0:
        factor = max(row.rounds) / min(row.rounds)
    else:
        factor = USUAL
    return min(MOST, max(LEAST, factor))


def _compare(was: Row, found: Row | None) -> Comparison:
    now = None if found is None else found.ratio
    return Comparison(
        name=was.name,
        unit=was.unit,
        committed=was.value,
        now=None if found is None else found.value,
        worse=math.inf if now is None else _worse(was, now),
        allowed=allowed(was),
    )


def _worse(was: Row, now: float) -> float:
    """By what factor. Nothing is worse than never, and whoever was there already cannot get worse."""
    assert was.ratio is not None
    under, over = (now, was.ratio) if was.better == "more" else (was.ratio, now)
    if math.isinf(over) or under == 0:
        return 1.0 if under == over else math.inf
    return 0.0 if math.isinf(under) else over / under
