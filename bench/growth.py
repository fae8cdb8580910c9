"""The same with more of it: executions that wait, and worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench import growth_processes, growth_waiting
from bench.plan import Plan
from bench.profiles import Profile
from bench.rows import Row

#: Of `growth-whole`.
WHOLE = 100_000


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    return [*await growth_waiting.measure(plan), *await growth_processes.measure(plan)]


async def measure_whole(plan: Plan) -> Sequence[Row | Profile]:
    """A hundred thousand executions that wait, which alone takes a quarter of an hour to let in."""
    return await growth_waiting.measure(replace(plan, growing=WHOLE))
