"""Whoever comes to a send while sends are paused stands there, and is sent to once afterwards, though workers die."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.devstack.stack import worker_name
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, field_on, kill
from tests.provider.provider import Mode

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

#: How many come, and how many sends are begun before the pause.
CROWD, BEFORE = 240, 60
WHOSE = {"journeyId": "welcome"}

# Whether so many have come, and each of them has ended or is held by the pause.
_ALL_HELD = """
SELECT count(*) = $1 AND bool_and(outcome IS NOT NULL OR parked IS NOT DISTINCT FROM 'sends_paused') FROM executions
"""
_BEGUN = "SELECT count(*) FROM sends"


async def test_a_worker_killed_while_sends_are_paused_in_the_middle_of_a_crowd(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish(wait="1s")
        await field.provider.set_mode(Mode(delay=0.5))  # so that sends are on their way when the pause begins
        people = [f"p-{number}" for number in range(CROWD)]
        signing_up = asyncio.create_task(field.sign_up(people))
        conn = await field.owner()

        async def begun() -> bool:
            return bool(await conn.fetchval("SELECT count(*) >= $1 FROM sends", BEFORE))

        await eventually(begun, within=60)
        await field.call("POST", "/v1/sendsPauses:pause", WHOSE)
        before = await conn.fetchval(_BEGUN)
        await kill(stack.part(worker_name(1)))
        await signing_up

        async def all_held() -> bool:
            return bool(await conn.fetchval(_ALL_HELD, len(people)))

        await eventually(all_held, within=60)
        held = await conn.fetch("SELECT DISTINCT step_id FROM executions WHERE outcome IS NULL")
        cut_off = await conn.fetchval("SELECT count(*) FROM sends WHERE state = 'dispatching'")
        assert {row["step_id"] for row in held} == {"one", "two"}, "nobody was held at the second send"
        assert cut_off, "no send was cut off: nothing was tried"
        assert await conn.fetchval(_BEGUN) == before, "a send was begun after the pause was answered"

        await field.provider.set_mode(Mode())
        await field.call("POST", "/v1/sendsPauses:resume", WHOSE)
        await field.ended(len(people))

        await field.check(people)
        await conn.close()
