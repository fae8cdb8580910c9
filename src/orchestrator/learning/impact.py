"""The calibrated impact of a journey: exposed against held out, at the same trigger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from orchestrator.learning.lift import FEW_SUBJECTS, NOBODY, Lift, NoLift, Side, lift_of, lift_over, sum_of
from orchestrator.learning.planning import matures_after
from orchestrator.learning.sample_ratio import SampleRatio, all_together, sample_ratio

#: Days of the trend.
TREND_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Triggers at which one holdout was in force: so many percent by this salt (None: its own). `share` is the part
    that it has of both sides.
    """

    percent: int
    salt: str | None
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerDay:
    """First triggers of subjects on a day (UTC), and those of them who converted within their windows so far.

    `stratum` None: what was in force was not recorded. `changed`: so many of them came again within their windows and
    were on another side then, since the holdout had been changed.
    """

    day: date
    exposed: Side
    holdout: Side
    stratum: Stratum | None
    changed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumImpact:
    """`exposed` and `holdout`: of days that have matured, those who can be compared. `left_out` of them cannot, as they
    came when the holdout was about to change. The days are of all its triggers, as is the sample ratio.
    """

    stratum: Stratum | None
    exposed: Side
    holdout: Side
    left_out: int
    first_day: date
    last_day: date
    sample_ratio: SampleRatio | None

    @property
    def compared(self) -> bool:
        return self.stratum is not None and bool(self.exposed.subjects and self.holdout.subjects)


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
    `matured_exposed` and what follows count only days whose windows have passed; `matured` compares within strata, of
    which `strata` tells one by one. The sample ratio is of all who were triggered.
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
    strata: tuple[StratumImpact, ...]
    matured_through: date | None
    sample_ratio: SampleRatio | None


def impact_of(days: Iterable[TriggerDay], *, today: date, window_days: int, grace_days: int = 1) -> Impact:
    """From the days of triggers in any order. `today` is the last day of the trend and need not be over; a day has
    matured when `window_days` and `grace_days` lie between its end and the beginning of `today`.

    Where sides are not as large as the share of a stratum says, the matured lift is withheld; that of all is what it
    is.
    """
    days = list(days)
    by_day = {day.day: day for day in _summed(days)}
    newest_matured = today - timedelta(days=matures_after(window_days, grace_days))
    exposed, holdout = _sides(days)
    matured = [day for day in days if day.day <= newest_matured]
    matured_exposed, matured_holdout = _sides(matured)
    all_of = lift_of(exposed, holdout)
    strata = _strata(days, newest_matured, window_days)
    ratio = all_together([one.sample_ratio for one in strata if one.sample_ratio is not None])
    trend = []
    for back in reversed(range(TREND_DAYS)):
        day = today - timedelta(days=back)
        of_day = by_day.get(day, TriggerDay(day=day, exposed=NOBODY, holdout=NOBODY, stratum=None))
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
        matured=_matured_lift(strata, ratio),
        strata=tuple(strata),
        matured_through=max((day.day for day in matured), default=None),
        sample_ratio=ratio,
    )


def _strata(days: Iterable[TriggerDay], newest_matured: date, window_days: int) -> list[StratumImpact]:
    """In the order of their first days."""
    parts: defaultdict[Stratum | None, list[TriggerDay]] = defaultdict(list)
    for day in days:
        parts[day.stratum].append(day)
    found = [_of_stratum(stratum, part, newest_matured, window_days) for stratum, part in parts.items()]
    return sorted(found, key=lambda one: (one.first_day, one.last_day, *_told(one.stratum)))


def _told(stratum: Stratum | None) -> tuple[float, int, str]:
    return (stratum.share, stratum.percent, stratum.salt or "") if stratum is not None else (-1, 0, "")


def _of_stratum(
    stratum: Stratum | None, days: Sequence[TriggerDay], newest_matured: date, window_days: int
) -> StratumImpact:
    """Whoever comes again after a change may be on another side. To leave out those who did would leave out the active
    ones, and of one side more than of the other; so all go who were triggered within a window of any who did. Whether a
    day goes does not depend on the side.
    """
    window = timedelta(days=window_days)
    changes = [day.day for day in days if day.changed]
    matured = [day for day in days if day.day <= newest_matured]
    left = {day.day for day in matured if any(abs(day.day - change) <= window for change in changes)}
    exposed, holdout = _sides(day for day in matured if day.day not in left)
    of_all = _sides(days)
    return StratumImpact(
        stratum=stratum,
        exposed=exposed,
        holdout=holdout,
        left_out=sum(day.exposed.subjects + day.holdout.subjects for day in matured if day.day in left),
        first_day=min(day.day for day in days),
        last_day=max(day.day for day in days),
        sample_ratio=sample_ratio(of_all[0].subjects, of_all[1].subjects, stratum.share) if stratum else None,
    )


def _matured_lift(strata: Sequence[StratumImpact], ratio: SampleRatio | None) -> Lift:
    known = [one for one in strata if one.stratum is not None]
    lift = lift_over((one.exposed, one.holdout) for one in known)
    # One bent stratum among many that are not is lost in what is said of all.
    bent = [one for one in known if one.sample_ratio is not None and one.sample_ratio.alarm]
    if bent or (ratio is not None and ratio.alarm):
        return _withheld(lift, NoLift.SAMPLE_RATIO_MISMATCH)
    if not any(one.compared for one in known):
        if any(one.left_out for one in known):
            return _withheld(lift, NoLift.HOLDOUT_CHANGED)
        if any(one.exposed.subjects and one.holdout.subjects for one in strata):
            return _withheld(lift, NoLift.HOLDOUT_UNKNOWN)
    return lift


def _withheld(lift: Lift, reason: NoLift) -> Lift:
    return replace(
        lift,
        lift=None,
        no_lift=reason,
        interval95=None,
        always_valid95=None,
        prob_positive=None,
        absolute=None,
        absolute95=None,
        incremental=None,
        incremental95=None,
    )


def _summed(days: Iterable[TriggerDay]) -> list[TriggerDay]:
    """One for each day, of whatever strata."""
    parts: defaultdict[date, list[TriggerDay]] = defaultdict(list)
    for day in days:
        parts[day.day].append(day)
    return [
        TriggerDay(day=day, exposed=sides[0], holdout=sides[1], stratum=None)
        for day, of_day in sorted(parts.items())
        for sides in [_sides(of_day)]
    ]


def _sides(days: Iterable[TriggerDay]) -> tuple[Side, Side]:
    days = list(days)
    return sum_of(day.exposed for day in days), sum_of(day.holdout for day in days)
