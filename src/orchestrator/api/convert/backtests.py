"""Backtests as messages."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from orchestrator.api.convert.times import to_timestamp
from orchestrator.application.backtests import BIASES, Backtest
from orchestrator.domain.estimate import Estimate
from orchestrator.domain.subject import BUCKETS
from orchestrator.v1 import backtest_pb2 as pb


def backtest_message(told: Backtest) -> pb.Backtest:
    tally = told.tally
    return pb.Backtest(
        journey_id=told.journey_id,
        version=told.version or 0,
        start_time=to_timestamp(told.since),
        end_time=to_timestamp(told.until),
        share=told.buckets / BUCKETS,
        subjects=tally.subjects,
        entries=_forecast(told.entries),
        sends=_forecast(told.sends),
        held_out=told.scaled(tally.held_out),
        refused=_scaled(told, tally.refused),
        days=[_day(told, number) for number in range(told.days)],
        ways=[
            pb.BacktestWay(step_id=step_id, reason=reason, count=told.scaled(count))
            for (step_id, reason), count in sorted(tally.ways.items())
        ],
        stopped=_scaled(told, tally.stopped),
        outcomes=_scaled(told, tally.outcomes),
        under_way=told.scaled(tally.under_way),
        biases=[pb.BacktestBias(bias=bias, message=BIASES[bias]) for bias in told.biases],
    )


def _day(told: Backtest, number: int) -> pb.BacktestDay:
    def of_day(counts: Counter[tuple[int, str]]) -> dict[str, int]:
        return {channel: told.scaled(count) for (day, channel), count in sorted(counts.items()) if day == number}

    return pb.BacktestDay(
        start_time=to_timestamp(told.since + timedelta(days=number)),
        entries=told.scaled(told.tally.entries[number]),
        sends=of_day(told.tally.sends),
        capped=of_day(told.tally.capped),
    )


def _scaled(told: Backtest, counts: Counter[str]) -> dict[str, int]:
    return {name: told.scaled(count) for name, count in sorted(counts.items())}


def _forecast(found: Estimate) -> pb.Forecast:
    return pb.Forecast(count=found.size, low=found.low, high=found.high)
