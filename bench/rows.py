"""What a bench found: rows of a table, each with the target it was measured for, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `target` and `holds` are None for what only stands beside. `note`: how it was measured, what bounds
    it.
    """

    name: str
    value: float
    unit: str
    target: str | None = None
    holds: bool | None = None
    note: str = ""


def beside(name: str, value: float, unit: str, note: str = "") -> Row:
    """A figure without a target."""
    return Row(name=name, value=rounded(value), unit=unit, note=note)


def at_least(target: float, name: str, value: float, unit: str, note: str = "") -> Row:
    return Row(
        name=name, value=rounded(value), unit=unit, target=f"≥ {target:,g}", holds=rounded(value) >= target, note=note
    )


def at_most(target: float, name: str, value: float, unit: str, note: str = "") -> Row:
    return Row(
        name=name, value=rounded(value), unit=unit, target=f"≤ {target:,g}", holds=rounded(value) <= target, note=note
    )


def rounded(value: float) -> float:
    """Three digits, all of them where there are more before the point."""
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")


def ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    """The median of the rounds' ratios: both sides of a round have met the same neighbours on the machine."""
    return median(a / b for a, b in zip(ours, bare, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Sequence[float]) -> str:
    """The rounds, for a note."""
    return " ".join(f"{rounded(value):g}" for value in values)
