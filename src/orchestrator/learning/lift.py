"""What a journey changed: the rate of those exposed against that of those held out, and how sure that is."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()
_Z95 = _NORMAL.inv_cdf(0.975)

#: Variance of the mixture of the always-valid read, on the scale of ln(1 + lift).
MIXTURE = 0.3**2
#: Below this many subjects on a side, a lift is called underpowered.
FEW_SUBJECTS = 100
#: Below this many conversions on a side, it is too, with a reason of its own.
FEW_CONVERSIONS = 10

# ln of a lift that nobody looks for.
_BEYOND_USE = 10.0

Interval = tuple[float, float]


class NoLift(enum.StrEnum):
    """Why there is no lift."""

    NOBODY_EXPOSED = "nobody_exposed"
    NOBODY_HELD_OUT = "nobody_held_out"
    HOLDOUT_RATE_ZERO = "holdout_rate_zero"
    #: There are far more on one side than its share explains: whatever does that may bend the lift too.
    SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"
    #: By which share subjects came to their sides was not recorded.
    HOLDOUT_UNKNOWN = "holdout_unknown"
    #: The holdout was changed, and whoever could be compared may have changed sides within the window.
    HOLDOUT_CHANGED = "holdout_changed"


class Underpowered(enum.StrEnum):
    FEW_SUBJECTS = "few_subjects"
    FEW_CONVERSIONS = "few_conversions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side: first triggers of subjects, and those who converted within the window after it."""

    subjects: int
    converted: int

    def __post_init__(self) -> None:
        if not 0 <= self.converted <= self.subjects:
            raise ValueError("who converted is among the subjects")

    @property
    def rate(self) -> float | None:
        """None when there are no subjects."""
        return self.converted / self.subjects if self.subjects else None


#: Of one stratum: exposed and held out.
Pair = tuple[Side, Side]
#: The same as numbers: converted and subjects of the exposed, then of the held out.
Counts = tuple[float, float, float, float]
NOBODY = Side(subjects=0, converted=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """`lift` is p₁/p₀ − 1, and of several strata that of all of them together (`lift_over`); it, the intervals and
    `prob_positive` are None for the reason `no_lift`.

    The rates are of those who are compared; with several strata `holdout_rate` is what it would be if as many of each
    had been held out as are exposed in it. `interval95` holds for one look at a time that was set before;
    `always_valid95` however often one looks, so only it may be called significant. `absolute` is the difference of the
    rates and `incremental` what that makes of the exposed, both with intervals for one look. `mde80`: the smallest lift
    that such numbers show in four of five cases.
    """

    exposed_rate: float | None
    holdout_rate: float | None
    lift: float | None
    no_lift: NoLift | None
    interval95: Interval | None
    always_valid95: Interval | None
    prob_positive: float | None
    absolute: float | None
    absolute95: Interval | None
    incremental: float | None
    incremental95: Interval | None
    mde80: float | None
    underpowered: Underpowered | None

    @property
    def significant(self) -> bool:
        return self.always_valid95 is not None and not self.always_valid95[0] <= 0 <= self.always_valid95[1]


def lift_of(exposed: Side, holdout: Side) -> Lift:
    """Of two sides to which subjects came by one share."""
    return lift_over([(exposed, holdout)])


def lift_over(strata: Iterable[Pair]) -> Lift:
    """Of (exposed, held out) of each stratum: sides are compared within these alone, so that what differs between them
    (the time, and with it the rate) is not taken for a lift. Strata with nobody on a side tell nothing.

    The ratio is that of Mantel and Haenszel, its variance that of Greenland and Robins (Biometrics 41, 1985). The
    difference is that of each stratum, weighted by its exposed; its interval is Newcombe's (Statistics in Medicine 17,
    1998, method 10) of both weighted rates, each taken as that of as many subjects as it is as uncertain as (Korn and
    Graubard, Survey Methodology 24, 1998). Of one stratum, all of it is what is said of two sides.
    """
    given = list(strata)
    compared = [(exposed, holdout) for exposed, holdout in given if exposed.subjects and holdout.subjects]
    exposed = sum_of(one for one, _ in compared or given)
    holdout = sum_of(other for _, other in compared or given)
    no_lift = _no_lift(exposed, holdout, compared)
    exposed_rate, holdout_rate = exposed.rate, holdout.rate
    absolute = absolute95 = incremental = incremental95 = None
    if compared:
        rates = [_as_the_exposed(sides, compared) for sides in zip(*compared, strict=True)]
        exposed_rate, holdout_rate = (each.rate for each in rates)
        absolute = exposed_rate - holdout_rate
        absolute95 = _difference95(*rates)
        incremental = exposed.subjects * absolute
        incremental95 = exposed.subjects * absolute95[0], exposed.subjects * absolute95[1]
    lift = interval = always_valid = prob_positive = None
    if no_lift is None:
        above, below = _weighted(_counts(compared))
        lift = above / below - 1
        centre, variance = _log_ratio(_counts(compared))
        interval = _ratio_less_one(centre, _Z95 * math.sqrt(variance))
        always_valid = _ratio_less_one(centre, always_valid_half_width(variance))
        prob_positive = _NORMAL.cdf(centre / math.sqrt(variance)) if variance > 0 else 0.5
    return Lift(
        exposed_rate=exposed_rate,
        holdout_rate=holdout_rate,
        lift=lift,
        no_lift=no_lift,
        interval95=interval,
        always_valid95=always_valid,
        prob_positive=prob_positive,
        absolute=absolute,
        absolute95=absolute95,
        incremental=incremental,
        incremental95=incremental95,
        mde80=_mde80(compared),
        underpowered=_underpowered(exposed, holdout),
    )


def sum_of(sides: Iterable[Side]) -> Side:
    sides = list(sides)
    return Side(subjects=sum(side.subjects for side in sides), converted=sum(side.converted for side in sides))


def always_valid_half_width(variance: float, alpha: float = 0.05) -> float:
    """Of the confidence sequence by a mixture of normal alternatives (mSPRT), for an estimate of this variance."""
    if variance <= 0:
        return 0.0
    both = variance + MIXTURE
    return math.sqrt(variance * both / MIXTURE * (2 * math.log(1 / alpha) + math.log(both / variance)))


def score95(rate: float, subjects: float) -> Interval:
    """Wilson's interval of a rate that was seen in so many subjects."""
    n, z2 = subjects, _Z95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(max(rate * (1 - rate), 0.0) / n + z2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _no_lift(exposed: Side, holdout: Side, compared: Sequence[Pair]) -> NoLift | None:
    if exposed.subjects == 0:
        return NoLift.NOBODY_EXPOSED
    if not compared:
        return NoLift.NOBODY_HELD_OUT
    return NoLift.HOLDOUT_RATE_ZERO if holdout.converted == 0 else None


def _counts(compared: Sequence[Pair]) -> list[Counts]:
    return [(one.converted, one.subjects, other.converted, other.subjects) for one, other in compared]


def _weighted(compared: Sequence[Counts]) -> tuple[float, float]:
    """Conversions of both sides, each stratum's weighted by the part of the other side: their ratio is Mantel's and
    Haenszel's."""
    above = sum(c1 * n0 / (n1 + n0) for c1, n1, c0, n0 in compared)
    below = sum(c0 * n1 / (n1 + n0) for c1, n1, c0, n0 in compared)
    return above, below


def _log_ratio(compared: Sequence[Counts]) -> tuple[float, float]:
    """ln of the ratio, and its variance, after half a conversion and half a subject more on each side (Walter): of each
    half every stratum has its part of the subjects."""
    total = sum(n1 + n0 for _, n1, _, n0 in compared)
    more = []
    for c1, n1, c0, n0 in compared:
        half = 0.5 * (n1 + n0) / total
        more.append((c1 + half, n1 + half, c0 + half, n0 + half))
    above, below = _weighted(more)
    spread = sum((n1 * n0 * (c1 + c0) - c1 * c0 * (n1 + n0)) / (n1 + n0) ** 2 for c1, n1, c0, n0 in more)
    return math.log(above / below), max(spread / (above * below), 0.0)


def _ratio_less_one(centre: float, half_width: float) -> Interval:
    return math.expm1(centre - half_width), math.expm1(centre + half_width)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rate:
    """A rate, and of how many equally weighted subjects one would be as uncertain."""

    rate: float
    subjects: float


def _as_the_exposed(sides: Sequence[Side], compared: Sequence[Pair]) -> _Rate:
    """Of a side of each stratum, if as many of each were among them as there are exposed in it.

    For its uncertainty each stratum's rate is that with one subject more, of the rate of all: one in which nobody
    converted is not for that without any.
    """
    total = sum(exposed.subjects for exposed, _ in compared)
    weights = [exposed.subjects / total for exposed, _ in compared]
    rate = sum(weight * side.converted / side.subjects for weight, side in zip(weights, sides, strict=True))
    variance = alike = 0.0
    for weight, side in zip(weights, sides, strict=True):
        near = (side.converted + rate) / (side.subjects + 1)
        variance += weight**2 * near * (1 - near) / side.subjects
        alike += weight**2 / side.subjects
    return _Rate(rate=rate, subjects=rate * (1 - rate) / variance if variance > 0 else 1 / alike)


def _difference95(one: _Rate, other: _Rate) -> Interval:
    (low1, high1), (low0, high0) = score95(one.rate, one.subjects), score95(other.rate, other.subjects)
    difference = one.rate - other.rate
    return (
        difference - math.hypot(one.rate - low1, high0 - other.rate),
        difference + math.hypot(high1 - one.rate, other.rate - low0),
    )


def _mde80(compared: Sequence[Pair]) -> float | None:
    """By the variance of the ratio if there is no lift, at the rates of the held out."""
    spread = converting = 0.0
    for exposed, holdout in compared:
        weight = exposed.subjects * holdout.subjects / (exposed.subjects + holdout.subjects)
        base = holdout.converted / holdout.subjects
        spread += weight * base * (1 - base)
        converting += weight * base
    if not converting:
        return None
    exponent = (_Z95 + _NORMAL.inv_cdf(0.8)) * math.sqrt(spread) / converting
    return math.expm1(exponent) if exponent < _BEYOND_USE else None


def _underpowered(exposed: Side, holdout: Side) -> Underpowered | None:
    if min(exposed.subjects, holdout.subjects) < FEW_SUBJECTS:
        return Underpowered.FEW_SUBJECTS
    if min(exposed.converted, holdout.converted) < FEW_CONVERSIONS:
        return Underpowered.FEW_CONVERSIONS
    return None
