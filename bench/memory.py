"""What a worker process holds in memory while ever more executions wait."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import TYPE_CHECKING

import asyncpg
import grpc
import psutil

from bench import welcome
from bench.callers import Enroller
from bench.ground import WORKER, furnish, ground
from bench.plan import Plan
from bench.rows import Row, at_most, beside
from orchestrator.devstack.stack import Stack

if TYPE_CHECKING:
    from asyncpg import Connection, Record

MOST_PERCENT = 5
FEW = 1_000
CALL = 100
JOURNEY = "waiting"

#: Seconds for the worker to come to rest, and looks at it afterwards, a second apart.
REST = 10
LOOKS = 5

_UNTOLD = "SELECT count(*) FROM outbox"


async def measure(plan: Plan) -> list[Row]:
    async with ground() as stack:
        await furnish(stack, *welcome.journey(JOURNEY, welcome.waiting(86_400)))
        conn = await asyncpg.connect(stack.addresses.database_url)
        async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
            enroller = Enroller(stack, channel)
            await let_in(enroller, conn, JOURNEY, range(FEW))
            few = await megabytes(stack)
            await let_in(enroller, conn, JOURNEY, range(FEW, plan.waiting))
            many = await megabytes(stack)
        await conn.close()
    return [
        at_most(
            MOST_PERCENT,
            f"worker memory, {FEW:,} → {plan.waiting:,} waiting",
            100 * (many / few - 1),
            "%",
            against=f"{FEW:,} that wait",
            swing=1.0,
        ),
        beside(f"worker memory, {FEW:,} waiting", few, "MB", "resident memory of worker and renderer, summed"),
        beside(f"worker memory, {plan.waiting:,} waiting", many, "MB"),
    ]


async def let_in(enroller: Enroller, conn: Connection[Record], journey_id: str, numbers: range) -> None:
    """Subjects of these numbers, called `patient-…`; returns when Temporal has been told of all."""
    for start in range(numbers.start, numbers.stop, CALL):
        await enroller.enroll(
            journey_id, [f"patient-{number}" for number in range(start, min(start + CALL, numbers.stop))]
        )
        # Not faster than Temporal is told, so that this is about waiting and not about a backlog.
        async with asyncio.timeout(120):
            while await conn.fetchval(_UNTOLD):
                await asyncio.sleep(0.05)


async def megabytes(stack: Stack) -> float:
    """Of the worker and the processes below it, once it has come to rest."""
    await asyncio.sleep(REST)
    looks = []
    for _ in range(LOOKS):
        worker = psutil.Process(stack.part(WORKER).pid)
        looks.append(sum(p.memory_info().rss for p in (worker, *worker.children(recursive=True))) / 1e6)
        await asyncio.sleep(1)
    return median(looks)
