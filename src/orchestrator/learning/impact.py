"""The calibrated impact of a journey: exposed against held out, at the same trigger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from orchestrator.learning.lift import FEW_SUBJECTS, Lift, NoLift, Side, lift_of
from orchestrator.learning.sample_ratio import SampleRatio, sample_ratio

#: Days of the trend.
TREND_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerDay:
    """First triggers of subjects on a day (UTC), and those of them who converted within their windows so far."""

    day: date
    exposed: Side
    holdout: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendDay:
    """Rates are None while the day has not matured, or when nobody came."""

    day: date
    exposed: Side
    holdout: Side
    mature: bool
    exposed_rate: float | None
    holdout_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """`exposed` to `underpowered` are of all who were triggered; while windows are open, their rates are too low.
    `matured_exposed` and what follows count only days whose windows have passed; the sample ratio is of all.
    """

    exposed: Side
    holdout: Side
    exposure_rate: float | None
    holdout_rate: float | None
    lift: float | None
    no_lift: NoLift | None
    underpowered: bool
    trend: tuple[TrendDay, ...]
    matured_exposed: Side
    matured_holdout: Side
    matured: Lift
    matured_through: date | None
    sample_ratio: SampleRatio | None


def impact_of(
    days: Iterable[TriggerDay],
    *,
    today: date,
    window_days: int,
    grace_days: int = 1,
    holdout_share: float | None = None,
) -> Impact:
    """From the days of triggers in any order. `today` is the last day of the trend and need not be over; a day has
    matured when `window_days` and `grace_days` lie between its end and the beginning of `today`.

    `holdout_share` is that by which subjects were held out, None where it changed: then nothing can be said of the
    ratio of both sides. If that is not as it should be, the matured lift is withheld; that of all is what it is.
    """
    by_day = {day.day: day for day in _summed(days)}
    newest_matured = today - timedelta(days=window_days + grace_days + 1)
    exposed, holdout = _sides(by_day.values())
    matured = [day for day in by_day.values() if day.day <= newest_matured]
    matured_exposed, matured_holdout = _sides(matured)
    all_of = lift_of(exposed, holdout)
    of_matured = lift_of(matured_exposed, matured_holdout)
    ratio = sample_ratio(exposed.subjects, holdout.subjects, holdout_share) if holdout_share is not None else None
    if ratio is not None and ratio.alarm:
        of_matured = replace(
            of_matured,
            lift=None,
            no_lift=NoLift.SAMPLE_RATIO_MISMATCH,
            interval95=None,
            always_valid95=None,
            prob_positive=None,
            absolute=None,
            absolute95=None,
            incremental=None,
            incremental95=None,
        )
    nobody = Side(subjects=0, converted=0)
    trend = []
    for back in reversed(range(TREND_DAYS)):
        day = today - timedelta(days=back)
        of_day = by_day.get(day, TriggerDay(day=day, exposed=nobody, holdout=nobody))
        mature = day <= newest_matured
        trend.append(
            TrendDay(
                day=day,
                exposed=of_day.exposed,
                holdout=of_day.holdout,
                mature=mature,
                exposed_rate=of_day.exposed.rate if mature else None,
                holdout_rate=of_day.holdout.rate if mature else None,
            )
        )
    return Impact(
        exposed=exposed,
        holdout=holdout,
        exposure_rate=exposed.rate,
        holdout_rate=holdout.rate,
        lift=all_of.lift,
        no_lift=all_of.no_lift,
        underpowered=min(exposed.subjects, holdout.subjects) < FEW_SUBJECTS,
        trend=tuple(trend),
        matured_exposed=matured_exposed,
        matured_holdout=matured_holdout,
        matured=of_matured,
        matured_through=max((day.day for day in matured), default=None),
        sample_ratio=ratio,
    )


def _summed(days: Iterable[TriggerDay]) -> list[TriggerDay]:
    """One for each day."""
    parts: dict[date, list[TriggerDay]] = {}
    for day in days:
        parts.setdefault(day.day, []).append(day)
    return [
        TriggerDay(day=day, exposed=sides[0], holdout=sides[1])
        for day, of_day in sorted(parts.items())
        for sides in [_sides(of_day)]
    ]


def _sides(days: Iterable[TriggerDay]) -> tuple[Side, Side]:
    days = list(days)
    return _sum(day.exposed for day in days), _sum(day.holdout for day in days)


def _sum(sides: Iterable[Side]) -> Side:
    sides = list(sides)
    return Side(subjects=sum(side.subjects for side in sides), converted=sum(side.converted for side in sides))
