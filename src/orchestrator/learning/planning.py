"""How long it takes until a lift can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from orchestrator.learning.lift import always_valid_half_width

_NORMAL = NormalDist()

#: A plan that needs more is none.
MOST_SUBJECTS = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Subjects of both sides together, those held out among them, and weeks until the last of them has matured, as
    `matures_after` has it.

    `subjects`: for one look at the end. `always_valid_subjects`: until the always-valid read says so, by then, with the
    power asked for; on the way one may look.
    """

    subjects: int
    held_out: int
    weeks: float
    always_valid_subjects: int
    always_valid_weeks: float


def matures_after(window_days: int, grace_days: int) -> int:
    """Days from the beginning of a day (UTC) of triggers until all of it has matured: the day itself, the window of the
    last of it, and the grace.
    """
    return 1 + window_days + grace_days


def planned(
    *,
    base_rate: float,
    lift: float,
    holdout_share: float,
    weekly_volume: float,
    window_days: float = 7.0,
    grace_days: int = 1,
    power: float = 0.8,
) -> Plan:
    """For a lift (0.1: a tenth more; −0.1: a tenth less) over the rate of those held out, two-sided at 5 %.

    Raises ValueError when a number is out of range: rates and shares lie between 0 and 1, and the lift is not 0, nor so
    small that nobody will ever see it.
    """
    exposed_rate = base_rate * (1 + lift)
    if not (0 < base_rate < 1 and 0 < exposed_rate < 1 and lift != 0):
        raise ValueError("both rates lie between 0 and 1, and differ")
    if not (0 < holdout_share < 1 and 0 < power < 1):
        raise ValueError("the holdout's share and the power lie between 0 and 1")
    if not (math.isfinite(weekly_volume) and weekly_volume > 0 and math.isfinite(window_days) and window_days >= 0):
        raise ValueError("the volume is above 0, and the window not below it")
    effect = abs(math.log1p(lift))
    # The variance of ln of the ratio, times the number of subjects.
    spread = (1 - exposed_rate) / exposed_rate / (1 - holdout_share) + (1 - base_rate) / base_rate / holdout_share
    reach = _NORMAL.inv_cdf(power)
    z = _NORMAL.inv_cdf(0.975) + reach
    # Before dividing by it: the square of the smallest effects is 0.
    if not spread * z**2 < MOST_SUBJECTS * effect**2:
        raise ValueError("so many subjects never come together")
    subjects = math.ceil(spread * (z / effect) ** 2)

    def seen(number: int) -> bool:
        variance = spread / number
        return effect - reach * math.sqrt(variance) >= always_valid_half_width(variance)

    enough = subjects
    while not seen(enough):
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        between = (enough + too_few) // 2
        too_few, enough = (too_few, between) if seen(between) else (between, enough)
    matures = matures_after(max(math.ceil(window_days), 1), grace_days)
    return Plan(
        subjects=subjects,
        held_out=math.ceil(subjects * holdout_share),
        weeks=subjects / weekly_volume + matures / 7,
        always_valid_subjects=enough,
        always_valid_weeks=enough / weekly_volume + matures / 7,
    )
