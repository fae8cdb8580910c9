"""Impact of journeys and plans of it as messages."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.application.impact import CalibratedImpact
from orchestrator.v1 import impact_pb2 as pb

if TYPE_CHECKING:
    from orchestrator.learning.impact import Impact, StratumImpact, TrendDay
    from orchestrator.learning.lift import Interval, Lift, Side
    from orchestrator.learning.planning import Plan
    from orchestrator.learning.sample_ratio import SampleRatio


def impact_message(told: CalibratedImpact) -> pb.CalibratedImpact:
    found = told.impact
    no_lift = found.no_lift.value if found.no_lift is not None else ""
    matured = pb.MaturedImpact(
        triggered=_subjects(found.matured_exposed, found.matured_holdout),
        converted=_converted(found.matured_exposed, found.matured_holdout),
        through_day=found.matured_through.isoformat() if found.matured_through is not None else "",
        estimate=lift_message(found.matured),
        strata=[_stratum(one) for one in found.strata],
    )
    return pb.CalibratedImpact(
        journey_id=told.journey_id,
        triggered=_subjects(found.exposed, found.holdout),
        converted=_converted(found.exposed, found.holdout),
        exposure_rate=found.exposure_rate,
        holdout_rate=found.holdout_rate,
        lift=found.lift,
        underpowered=found.underpowered,
        daily_trend=[_day(day) for day in found.trend],
        no_lift_reason=no_lift if told.has_goal else "no_goal",
        matured=matured,
        global_holdout=_global(told.global_holdout) if told.global_holdout is not None else None,
        sample_ratio=ratio_message(found.sample_ratio) if found.sample_ratio is not None else None,
        goals=[
            pb.MeasuredGoal(
                goal_revision=one.goal.revision,
                event_name=one.goal.event_name or "",
                window=to_duration(one.goal.window),
                create_time=to_timestamp(one.goal.since),
                triggered=one.subjects,
            )
            for one in told.goals
        ],
        late_conversions=told.late,
        holdout_share=told.holdout_share,
        count_time=to_timestamp(told.as_of),
    )


def lift_message(lift: Lift) -> pb.LiftEstimate:
    return pb.LiftEstimate(
        exposure_rate=lift.exposed_rate,
        holdout_rate=lift.holdout_rate,
        lift=lift.lift,
        no_lift_reason=lift.no_lift.value if lift.no_lift is not None else "",
        interval95=_interval(lift.interval95),
        always_valid95=_interval(lift.always_valid95),
        significant=lift.significant,
        prob_positive=lift.prob_positive,
        absolute_lift=lift.absolute,
        absolute_interval95=_interval(lift.absolute95),
        incremental_conversions=lift.incremental,
        incremental_interval95=_interval(lift.incremental95),
        mde80=lift.mde80,
        underpowered_reason=lift.underpowered.value if lift.underpowered is not None else "",
    )


def ratio_message(ratio: SampleRatio) -> pb.SampleRatio:
    return pb.SampleRatio(
        statistic=ratio.statistic if isfinite(ratio.statistic) else None,
        freedom=ratio.freedom,
        p_value=ratio.p_value,
        alarm=ratio.alarm,
    )


def plan_message(plan: Plan) -> pb.ImpactPlan:
    return pb.ImpactPlan(
        subjects=plan.subjects,
        held_out=plan.held_out,
        weeks=plan.weeks,
        always_valid_subjects=plan.always_valid_subjects,
        always_valid_weeks=plan.always_valid_weeks,
    )


def _day(day: TrendDay) -> pb.ImpactDay:
    return pb.ImpactDay(
        day=day.day.isoformat(),
        triggered=_subjects(day.exposed, day.holdout),
        converted=_converted(day.exposed, day.holdout),
        mature=day.mature,
        exposure_rate=day.exposed_rate,
        holdout_rate=day.holdout_rate,
    )


def _global(against: Impact) -> pb.GlobalHoldoutImpact:
    return pb.GlobalHoldoutImpact(
        triggered=against.holdout.subjects,
        converted=against.holdout.converted,
        rate=against.holdout.rate,
        matured_triggered=against.matured_holdout.subjects,
        matured_converted=against.matured_holdout.converted,
        estimate=lift_message(against.matured),
        strata=[_stratum(one) for one in against.strata],
        sample_ratio=ratio_message(against.sample_ratio) if against.sample_ratio is not None else None,
    )


def _stratum(one: StratumImpact) -> pb.ImpactStratum:
    return pb.ImpactStratum(
        holdout_share=one.stratum.share if one.stratum is not None else None,
        triggered=_subjects(one.exposed, one.holdout),
        converted=_converted(one.exposed, one.holdout),
        compared=one.compared,
        left_out=one.left_out,
        first_day=one.first_day.isoformat(),
        last_day=one.last_day.isoformat(),
        sample_ratio=ratio_message(one.sample_ratio) if one.sample_ratio is not None else None,
    )


def _subjects(exposed: Side, holdout: Side) -> pb.CohortCounts:
    return pb.CohortCounts(exposed=exposed.subjects, holdout=holdout.subjects)


def _converted(exposed: Side, holdout: Side) -> pb.CohortCounts:
    return pb.CohortCounts(exposed=exposed.converted, holdout=holdout.converted)


def _interval(interval: Interval | None) -> tuple[float, ...]:
    return interval or ()
