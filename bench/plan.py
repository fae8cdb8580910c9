"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`rounds` of everything that is compared. The defaults take three quarters of an hour on two cores.

    `journeys` of a round: four times as many as a worker keeps in memory, so that most are replayed at every step, as
    executions are that wait for days; and so many that the wait of the last ones weighs little.
    """

    rounds: int = 5
    journey_rounds: int = 3
    journeys: int = 1_200
    events: int = 60_000
    read_seconds: float = 4.0
    latencies: int = 400
    start_seconds: float = 40.0
    waiting: int = 5_000
    wakes: int = 1_000
    subjects: int = 1_000_000
    passes: int = 3
    checks: int = 3_000
    fresh_seconds: float = 40.0
    crowd: int = 2_000
    choices: int = 1_000_000
    checked: int = 10_000
    overload_seconds: float = 20.0
    growing: int = 20_000
    scale_rounds: int = 2
    provider_sends: int = 300
    heavy_sends: int = 80


WHOLE = Plan()
QUICK = Plan(
    rounds=2,
    journey_rounds=1,
    journeys=200,
    events=10_000,
    read_seconds=1.0,
    latencies=100,
    start_seconds=5.0,
    waiting=2_000,
    wakes=200,
    subjects=50_000,
    passes=1,
    checks=500,
    fresh_seconds=5.0,
    crowd=600,
    choices=50_000,
    checked=500,
    overload_seconds=4.0,
    growing=2_000,
    scale_rounds=1,
    provider_sends=100,
    heavy_sends=20,
)
#: The workers' memory with 20,000 waiting executions instead of 5,000.
SOAK = Plan(waiting=20_000)
