"""How late executions wake: first how many can in a second, then how late they are at half of that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import grpc

from bench import welcome
from bench.callers import Enroller
from bench.ground import WORKER, furnish, ground
from bench.pace import at_pace
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.rows import Row, at_most, beside, percentile

if TYPE_CHECKING:
    from asyncpg import Connection, Record

MOST_SECONDS = 2.0

WAIT = 60
CALL = 10

_UNTOLD = "SELECT count(*) FROM outbox"
_OPEN = "SELECT count(*) FROM executions WHERE project_no = 1 AND outcome IS NULL"

# When each was due and when it was decided on, by the database's clock.
_WAKES = """
SELECT v.entered_at AS since, v.left_at AS woken FROM visits AS v
 WHERE v.project_no = 1 AND v.journey_id = $1 AND v.step_id = 'pause'
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    async with ground() as stack:
        await furnish(
            stack,
            *welcome.journey("at-once", welcome.waiting(WAIT)),
            *welcome.journey("at-pace", welcome.waiting(WAIT)),
            *welcome.journey("profiled", welcome.waiting(WAIT)),
        )
        conn = await asyncpg.connect(stack.addresses.database_url)
        async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
            enroller = Enroller(stack, channel)
            # One call: all of them are due at one instant.
            await enroller.enroll("at-once", [f"crowd-{number}" for number in range(plan.wakes)])
            wakes = await _woken(conn, "at-once")
            first = min(due for due, _ in wakes)
            capacity = len(wakes) / (max(woken for _, woken in wakes) - first).total_seconds()

            async def let_in(number: int) -> None:
                await enroller.enroll("at-pace", [f"pair-{number}-{n}" for n in range(CALL)])

            await at_pace(let_in, plan.wakes // CALL, capacity / 2 / CALL)
            lateness = [(woken - due).total_seconds() for due, woken in await _woken(conn, "at-pace")]
            await enroller.enroll("profiled", [f"others-{number}" for number in range(plan.wakes)])
            await _until_due(conn, "profiled")
            of = f"{plan.wakes} executions wake that are due at one instant"
            async with profiled(stack, of, worker=stack.part(WORKER).pid) as profiles:
                await _all_ended(conn)
        await conn.close()
    note = f"at {capacity / 2:.0f} wakes/s, half of the capacity"
    return [
        at_most(MOST_SECONDS, "wake lateness at half the capacity, p99", percentile(lateness, 99), "s", note),
        beside("wake lateness at half the capacity, p50", percentile(lateness, 50), "s"),
        beside("wakes", capacity, "/s", f"{plan.wakes} due at one instant, until the last of them was decided on"),
        *profiles,
    ]


async def _woken(conn: Connection[Record], journey_id: str) -> list[tuple[datetime, datetime]]:
    """When each was due and when it woke, once all have; raises AssertionError if one was not started before that."""
    while await conn.fetchval(_UNTOLD):
        await asyncio.sleep(0.1)
    if await conn.fetchval(
        "SELECT count(*) FROM visits WHERE project_no = 1 AND journey_id = $1 AND step_id = 'pause'", journey_id
    ):
        raise AssertionError(f"{WAIT} s are not enough to start them all")
    await _all_ended(conn)
    rows = await conn.fetch(_WAKES, journey_id)
    return [(row["since"] + timedelta(seconds=WAIT), row["woken"]) for row in rows]


async def _all_ended(conn: Connection[Record]) -> None:
    async with asyncio.timeout(WAIT + 120):
        while await conn.fetchval(_OPEN):
            await asyncio.sleep(0.2)


async def _until_due(conn: Connection[Record], journey_id: str) -> None:
    """Returns when the first of them is about to wake."""
    since = await conn.fetchval(
        "SELECT min(since) FROM executions WHERE project_no = 1 AND journey_id = $1 AND step_id = 'pause'", journey_id
    )
    now = await conn.fetchval("SELECT clock_timestamp()")
    await asyncio.sleep((since + timedelta(seconds=WAIT) - now).total_seconds())
