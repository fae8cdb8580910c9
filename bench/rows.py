"""What a bench found: rows of a table, each with the target it was measured for, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite
from statistics import median
from typing import Literal, TypedDict, Unpack

#: Which way is better.
Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `target` and `holds` are None for what only stands beside. `note`: how it was measured.

    `against`: the alternative that a ratio is to. `rounds`: the ratio of each round, whose median it is. `swing`: by
    what factor it differs between runs of the same code, where rounds do not say so. `path`: that of
    docs/performance.md it belongs to, where it is another than its bench's. `better` is None where neither way is.
    """

    name: str
    value: float
    unit: str
    target: str | None = None
    holds: bool | None = None
    note: str = ""
    against: str = ""
    better: Better | None = None
    rounds: tuple[float, ...] = ()
    swing: float | None = None
    path: str = ""

    @property
    def ratio(self) -> float | None:
        """What can be compared between runs on other days and other machines; None for times, rates and sizes.

        What has grown by so many per cent is a ratio to what it was; a share is one by itself.
        """
        if self.better is None or self.unit not in ("×", "%"):
            return None
        if self.unit == "×":
            return self.value
        return self.value / 100 if self.better == "more" else 1 + self.value / 100


class How(TypedDict, total=False):
    """What else is known of a figure, as Row has it."""

    against: str
    rounds: Sequence[float]
    swing: float | None
    path: str


def beside(
    name: str, value: float, unit: str, note: str = "", *, better: Better | None = None, **how: Unpack[How]
) -> Row:
    """A figure without a target."""
    return Row(
        name=name,
        value=rounded(value),
        unit=unit,
        note=note,
        against=how.get("against", ""),
        better=better,
        rounds=tuple(map(rounded, how.get("rounds", ()))),
        swing=how.get("swing"),
        path=how.get("path", ""),
    )


def at_least(target: float, name: str, value: float, unit: str, note: str = "", **how: Unpack[How]) -> Row:
    row = beside(name, value, unit, note, better="more", **how)
    return replace(row, target=f"≥ {target:,g}", holds=row.value >= target)


def at_most(target: float, name: str, value: float, unit: str, note: str = "", **how: Unpack[How]) -> Row:
    row = beside(name, value, unit, note, better="less", **how)
    return replace(row, target=f"≤ {target:,g}", holds=row.value <= target)


def rounded(value: float) -> float:
    """Three digits, all of them where there are more before the point."""
    if not isfinite(value):
        return inf
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")


def ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    """The median of the rounds' ratios: both sides of a round have met the same neighbours on the machine."""
    return median(ratios(ours, bare))


def ratios(ours: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Of each round."""
    return [a / b for a, b in zip(ours, bare, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Sequence[float]) -> str:
    """The rounds, for a note."""
    return " ".join(f"{rounded(value):g}" for value in values)
