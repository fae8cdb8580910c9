"""What a journey changed: the rate of those exposed against that of those held out, and how sure that is."""

from __future__ import annotations

import enum
import math
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """`lift` is p₁/p₀ − 1; it, the intervals and `prob_positive` are None for the reason `no_lift`.

    `interval95` holds for one look at a time that was set before; `always_valid95` however often one looks, so only it
    may be called significant. `absolute` is p₁ − p₀ and `incremental` what that makes of all exposed, both with
    intervals for one look. `mde80`: the smallest lift that such numbers show in four of five cases.
    """

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
    no_lift = _no_lift(exposed, holdout)
    absolute = absolute95 = incremental = incremental95 = None
    if exposed.rate is not None and holdout.rate is not None:
        absolute = exposed.rate - holdout.rate
        absolute95 = _difference95(exposed, holdout)
        incremental = exposed.subjects * absolute
        incremental95 = exposed.subjects * absolute95[0], exposed.subjects * absolute95[1]
    lift = interval = always_valid = prob_positive = None
    if no_lift is None:
        assert exposed.rate is not None  # else there were a reason
        assert holdout.rate
        lift = exposed.rate / holdout.rate - 1
        centre, variance = _log_ratio(exposed, holdout)
        interval = _ratio_less_one(centre, _Z95 * math.sqrt(variance))
        always_valid = _ratio_less_one(centre, always_valid_half_width(variance))
        prob_positive = _NORMAL.cdf(centre / math.sqrt(variance)) if variance > 0 else 0.5
    return Lift(
        lift=lift,
        no_lift=no_lift,
        interval95=interval,
        always_valid95=always_valid,
        prob_positive=prob_positive,
        absolute=absolute,
        absolute95=absolute95,
        incremental=incremental,
        incremental95=incremental95,
        mde80=_mde80(exposed, holdout),
        underpowered=_underpowered(exposed, holdout),
    )


def always_valid_half_width(variance: float, alpha: float = 0.05) -> float:
    """Of the confidence sequence by a mixture of normal alternatives (mSPRT), for an estimate of this variance."""
    if variance <= 0:
        return 0.0
    both = variance + MIXTURE
    return math.sqrt(variance * both / MIXTURE * (2 * math.log(1 / alpha) + math.log(both / variance)))


def _no_lift(exposed: Side, holdout: Side) -> NoLift | None:
    if exposed.subjects == 0:
        return NoLift.NOBODY_EXPOSED
    if holdout.subjects == 0:
        return NoLift.NOBODY_HELD_OUT
    return NoLift.HOLDOUT_RATE_ZERO if holdout.converted == 0 else None


def _log_ratio(exposed: Side, holdout: Side) -> tuple[float, float]:
    """ln of the ratio of the rates, and its variance, after half a conversion and half a subject more on each side
    (Walter)."""
    c1, n1, c0, n0 = (count + 0.5 for side in (exposed, holdout) for count in (side.converted, side.subjects))
    return math.log(c1 / n1) - math.log(c0 / n0), max(1 / c1 - 1 / n1 + 1 / c0 - 1 / n0, 0.0)


def _ratio_less_one(centre: float, half_width: float) -> Interval:
    return math.expm1(centre - half_width), math.expm1(centre + half_width)


def _difference95(exposed: Side, holdout: Side) -> Interval:
    """Newcombe's interval from the score intervals of both rates (Statistics in Medicine 17, 1998, method 10)."""
    assert exposed.rate is not None
    assert holdout.rate is not None
    (low1, high1), (low0, high0) = _score95(exposed), _score95(holdout)
    difference = exposed.rate - holdout.rate
    return (
        difference - math.hypot(exposed.rate - low1, high0 - holdout.rate),
        difference + math.hypot(high1 - exposed.rate, holdout.rate - low0),
    )


def _score95(side: Side) -> Interval:
    """Wilson's."""
    n, rate, z2 = side.subjects, side.converted / side.subjects, _Z95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _mde80(exposed: Side, holdout: Side) -> float | None:
    if not exposed.subjects or not holdout.converted:
        return None
    base = holdout.converted / holdout.subjects
    spread = math.sqrt((1 - base) / base * (1 / exposed.subjects + 1 / holdout.subjects))
    exponent = (_Z95 + _NORMAL.inv_cdf(0.8)) * spread
    return math.expm1(exponent) if exponent < _BEYOND_USE else None


def _underpowered(exposed: Side, holdout: Side) -> Underpowered | None:
    if min(exposed.subjects, holdout.subjects) < FEW_SUBJECTS:
        return Underpowered.FEW_SUBJECTS
    if min(exposed.converted, holdout.converted) < FEW_CONVERSIONS:
        return Underpowered.FEW_CONVERSIONS
    return None
