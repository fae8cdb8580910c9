"""How late executions wake: first how many can in a second, then how late they are at half of that."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import grpc

from bench import welcome
from bench.callers import Enroller
from bench.ground import furnish, ground
from bench.pace import at_pace
from bench.plan import Plan
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


async def measure(plan: Plan) -> list[Row]:
    async with ground() as stack:
        await furnish(
            stack,
            *welcome.journey("at-once", welcome.waiting(WAIT)),
            *welcome.journey("at-pace", welcome.waiting(WAIT)),
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
        await conn.close()
    note = f"at {capacity / 2:.0f} wakes/s, half of the capacity"
    return [
        at_most(MOST_SECONDS, "wake lateness at half the capacity, p99", percentile(lateness, 99), "s", note),
        beside("wake lateness at half the capacity, p50", percentile(lateness, 50), "s"),
        beside("wakes", capacity, "/s", f"{plan.wakes} due at one instant, until the last of them was decided on"),
    ]


async def _woken(conn: Connection[Record], journey_id: str) -> list[tuple[datetime, datetime]]:
    """When each was due and when it woke, once all have; raises AssertionError if one was not started before that."""
    while await conn.fetchval(_UNTOLD):
        await asyncio.sleep(0.1)
    if await conn.fetchval(
        "SELECT count(*) FROM visits WHERE project_no = 1 AND journey_id = $1 AND step_id = 'pause'", journey_id
    ):
        raise AssertionError(f"{WAIT} s are not enough to start them all")
    async with asyncio.timeout(WAIT + 120):
        while await conn.fetchval(_OPEN):
            await asyncio.sleep(0.2)
    rows = await conn.fetch(_WAKES, journey_id)
    return [(row["since"] + timedelta(seconds=WAIT), row["woken"]) for row in rows]
