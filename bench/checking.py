"""How long the checker of the fault tests takes: gathering what is known of executions, and holding it against the
thirteen invariants.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import httpx
from tests.faults.checker import at_rest, evidence_of, examine

from bench.ground import furnish, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.rows import Row, at_most, beside
from orchestrator.devstack.stack import Stack

#: Executions at first, and seconds for them; and for all of them.
FIRST, FIRST_WITHIN = 500, 10.0
ALL_WITHIN = 60.0

#: Subjects of one call, of which so many are under way.
CALL, AT_ONCE = 100, 4

#: Nobody has opted out, or was forgotten; no provider has receipts of what was only logged; nobody kept a log of calls.
IDLE = ("I2", "I9", "I10")

MESSAGE = {
    "id": "said",
    "name": "Said",
    "channel": "log",
    "category": "marketing",
    "subject": "Hello",
    "body": "There",
}
JOURNEY = {
    "id": "checked",
    "name": "Checked",
    "triggerContractId": "came",
    "steps": [
        {"id": "hello", "send": {"communicationId": "said"}, "next": "pause"},
        {"id": "pause", "wait": {"duration": "1s"}, "next": "half"},
        {
            "id": "half",
            "split": {"arms": [{"id": "a", "weight": 1, "next": "again"}, {"id": "b", "weight": 1, "next": "bye"}]},
        },
        {"id": "again", "send": {"communicationId": "said"}, "next": "bye"},
        {"id": "bye", "exit": {}},
    ],
}


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    contract = {"id": "came", "name": "Came", "eventName": "came"}
    async with ground() as stack:
        await furnish(
            stack,
            ("/v1/communications", MESSAGE),
            ("/v1/triggerContracts", contract),
            ("/v1/journeys", JOURNEY),
            ("/v1/journeys/checked:publish", {}),
        )
        few = min(FIRST, plan.checked)
        await _travel(stack, range(few))
        first, looked_at = await _check(stack)
        await _travel(stack, range(few, plan.checked))
        everything, _ = await _check(stack)
        async with profiled(stack, f"{plan.checked:,} executions are checked", checker=os.getpid()) as profiles:
            await _check(stack)
    return [
        at_most(FIRST_WITHIN, f"the checker, {few:,} executions", first, "s"),
        at_most(ALL_WITHIN, f"the checker, {plan.checked:,} executions", everything, "s"),
        beside(f"things that it looks at, of {few:,} executions", looked_at, ""),
        *profiles,
    ]


async def _travel(stack: Stack, numbers: range) -> None:
    """These go through the journey, to its end."""
    turn = asyncio.Semaphore(AT_ONCE)
    headers = {"X-Api-Key": stack.keys.owner}
    async with httpx.AsyncClient(base_url=stack.addresses.http, headers=headers, timeout=60) as http:

        async def enroll(some: range) -> None:
            async with turn:
                body = {"subjectIds": [f"s-{number}" for number in some]}
                (await http.post("/v1/journeys/checked:enroll", json=body)).raise_for_status()

        await asyncio.gather(*(enroll(numbers[at : at + CALL]) for at in range(0, len(numbers), CALL)))
    conn = await asyncpg.connect(stack.addresses.database_url)
    try:
        async with asyncio.timeout(1200):
            while await conn.fetchval("SELECT count(*) FROM executions WHERE outcome IS NULL"):
                await asyncio.sleep(0.5)
    finally:
        await conn.close()
    await at_rest(stack, within=120)


async def _check(stack: Stack) -> tuple[float, int]:
    """Seconds it took, and how much it looked at."""
    began = time.perf_counter()
    # How late waits are where all come at once is measured elsewhere.
    report = examine(await evidence_of(stack, patience=timedelta(hours=1)))
    took = time.perf_counter() - began
    report.require_sound(idle=IDLE)
    return took, sum(verdict.looked_at for verdict in report.verdicts.values())
