"""What changes while twenty times as many executions wait: memory, what an event for one of them costs and how soon it
goes on, and how late others wake.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import grpc
import psutil

from bench import wake_ups, welcome
from bench.callers import Enroller
from bench.ground import WORKER, CoreTime, calm, furnish, ground
from bench.memory import FEW, MOST_PERCENT, let_in, megabytes
from bench.pace import at_pace
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.rows import Row, at_most, beside, percentile
from bench.until import until
from bench.wakes import MOST_SECONDS
from orchestrator.devstack.stack import SERVER, TEMPORAL, Stack

if TYPE_CHECKING:
    from asyncpg import Connection, Record

CROWD, NAP = "crowd", "nap"

#: Events for executions that wait, as often as may be without anybody waiting for anybody.
EVENTS = 200

#: Others that sleep meanwhile, for so many seconds; they lie down so many a second.
NAPS, NAP_SECONDS, NAP_PACE = 200, 20, 10.0

#: Seconds in which nothing happens.
IDLE = 5.0

_UNREAD = "SELECT NOT EXISTS (SELECT FROM inbox) AND NOT EXISTS (SELECT FROM outbox)"

_GONE_ON = """
SELECT s.subject_id, v.left_at
  FROM visits AS v JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE v.project_no = 1 AND v.step_id = 'await' AND v.reason = 'came'
"""

_WOKEN = """
SELECT v.entered_at AS since, v.left_at AS woken
  FROM visits AS v JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE v.project_no = 1 AND v.step_id = 'pause' AND s.subject_id LIKE $1 || '-%'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """While so many wait. Milliseconds and core-milliseconds of an event; seconds of a waking; `idle`: cores that are
    busy while nothing happens.
    """

    worker_mb: float
    temporal_mb: float
    idle: float
    event_ms: Sequence[float]
    event_cores: float
    late: Sequence[float]


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    few, many = FEW, plan.growing
    async with ground() as stack:
        await furnish(
            stack,
            *welcome.journey(CROWD, wake_ups.STEPS),
            *welcome.journey(NAP, welcome.waiting(NAP_SECONDS)),
        )
        conn = await asyncpg.connect(stack.addresses.database_url)
        try:
            async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
                field = _Field(stack, channel, conn)
                # Before anything is measured, so that everything that works has worked once.
                await let_in(field.enroller, conn, CROWD, range(EVENTS))
                await field.pay(range(EVENTS))
                await let_in(field.enroller, conn, CROWD, range(EVENTS, EVENTS + few))
                before = await field.level("few", range(EVENTS, EVENTS + few))
                began = time.monotonic()
                # As many as the events have let go on are let in besides.
                await let_in(field.enroller, conn, CROWD, range(EVENTS + few, 2 * EVENTS + many))
                letting_in = time.monotonic() - began
                after = await field.level("many", range(EVENTS + few, 2 * EVENTS + many))
                async with profiled(
                    stack,
                    f"events for {EVENTS} of {many:,} executions that wait",
                    worker=stack.part(WORKER).pid,
                    server=stack.part(SERVER).pid,
                ) as profiles:
                    await field.pay(range(EVENTS + few, 2 * EVENTS + many)[1 :: (many - few) // EVENTS + 1][:EVENTS])
        finally:
            await conn.close()
    return [*_rows(few, many, before, after, letting_in), *profiles]


class _Field:
    """One stack with many that wait on it."""

    def __init__(self, stack: Stack, channel: grpc.aio.Channel, conn: Connection[Record]) -> None:
        self.enroller = Enroller(stack, channel)
        self._stack = stack
        self._channel = channel
        self._conn = conn

    async def pay(self, numbers: Sequence[int]) -> tuple[list[float], float]:
        """Each of these gets the event that it waits for: milliseconds from the answer until it has gone on, and
        core-milliseconds of all processes for each.
        """
        stack = self._stack
        used = CoreTime(stack, worker=stack.part(WORKER).pid, server=stack.part(SERVER).pid)
        accepted_at = await wake_ups.pay(stack, self._channel, [f"patient-{number}" for number in numbers])
        gone_on: dict[str, float] = {}

        async def all_have() -> bool:
            for subject_id, left_at in await self._conn.fetch(_GONE_ON):
                if subject_id in accepted_at:
                    gone_on[subject_id] = left_at.timestamp()
            return len(gone_on) == len(numbers)

        await until(all_have, within=120)
        cores = 1000 * sum(used.used().values()) / len(numbers)
        return [1000 * (gone_on[subject_id] - at) for subject_id, at in accepted_at.items()], cores

    async def level(self, name: str, waiting: range) -> _Level:
        """Everything at once; the events are for some of `waiting`, evenly spread over them."""
        stack = self._stack
        await until(lambda: self._conn.fetchval(_UNREAD), within=120)
        await calm(stack)
        worker_mb = await megabytes(stack)
        temporal_mb = psutil.Process(stack.part(TEMPORAL).pid).memory_info().rss / 1e6
        used = CoreTime(stack, worker=stack.part(WORKER).pid, server=stack.part(SERVER).pid)
        await asyncio.sleep(IDLE)
        idle = sum(used.used().values()) / IDLE
        event_ms, event_cores = await self.pay(waiting[:: len(waiting) // EVENTS][:EVENTS])
        return _Level(
            worker_mb=worker_mb,
            temporal_mb=temporal_mb,
            idle=idle,
            event_ms=event_ms,
            event_cores=event_cores,
            late=await self._nap(name),
        )

    async def _nap(self, series: str) -> list[float]:
        """Seconds by which each was late who slept meanwhile, by the database's clock."""
        rows: list[Record] = []

        async def lie_down(number: int) -> None:
            await self.enroller.enroll(NAP, [f"{series}-{number}"])

        async def all_have() -> bool:
            rows[:] = await self._conn.fetch(_WOKEN, series)
            return len(rows) == NAPS

        await at_pace(lie_down, NAPS, NAP_PACE)
        await until(all_have, within=NAP_SECONDS + 120)
        return [(row["woken"] - row["since"] - timedelta(seconds=NAP_SECONDS)).total_seconds() for row in rows]


def _rows(few: int, many: int, before: _Level, after: _Level, letting_in: float) -> list[Row]:
    grown, against = f"{few:,} → {many:,} waiting", f"{few:,} that wait"

    def beside_few(name: str, then: float, now: float, note: str) -> Row:
        return beside(f"{name}, {grown}", now / then, "×", note, against=against, better="less", swing=1.9)

    early, late = percentile(before.event_ms, 50), percentile(after.event_ms, 50)
    punctual, tardy = percentile(before.late, 50), percentile(after.late, 50)
    return [
        at_most(
            MOST_PERCENT, f"worker memory, {grown}", 100 * (after.worker_mb / before.worker_mb - 1),
            "%", f"{before.worker_mb:.0f} → {after.worker_mb:.0f} MB, worker and renderer", against=against, swing=1.0,
        ),
        at_most(
            MOST_SECONDS, f"wake lateness with {many:,} waiting, p99", percentile(after.late, 99), "s",
            f"with {few:,}: {percentile(before.late, 99):.3f} s; {NAPS} that wake at {NAP_PACE:g} a second",
        ),
        beside_few("wake lateness, p50", punctual, tardy, f"{1000 * punctual:.0f} → {1000 * tardy:.0f} ms"),
        beside_few(
            "cost of an event for one of them", before.event_cores, after.event_cores,
            f"{before.event_cores:.1f} → {after.event_cores:.1f} core-ms of server, worker, Postgres and Temporal, "
            f"with all that they do besides, at {wake_ups.PACE:g} events/s",
        ),
        beside_few("event accepted → execution has gone on, p50", early, late, f"{early:.0f} → {late:.0f} ms"),
        beside(
            f"event accepted → execution has gone on with {many:,} waiting, p99", percentile(after.event_ms, 99), "ms",
            f"with {few:,}: {percentile(before.event_ms, 99):.0f} ms",
        ),
        beside(
            f"cores busy while {many:,} wait and nothing happens", after.idle, "",
            f"with {few:,}: {before.idle:.2f}",
        ),
        beside(
            f"memory of Temporal's server with {many:,} waiting", after.temporal_mb, "MB",
            f"with {few:,}: {before.temporal_mb:.0f} MB; let in at {(many - few) / letting_in:.0f} a second",
        ),
    ]  # fmt: skip
