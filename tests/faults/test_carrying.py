"""Workers die while executions go over to another version: all do, and each message goes out once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.devstack.stack import worker_name
from tests.conftest import StartStack
from tests.faults.field import ENVIRONMENT, field_on, kill

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

CROWD = 200


async def test_workers_killed_while_executions_go_over(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish(wait="30d")
        people = [f"p-{n}" for n in range(CROWD)]
        await field.call("POST", "/v1/journeys/welcome:enroll", {"subjectIds": people})
        conn = await field.owner()
        while await conn.fetchval("SELECT count(*) FROM executions WHERE step_id = 'pause'") < CROWD:
            await asyncio.sleep(0.05)
        steps = [
            {"id": "one", "send": {"communicationId": "first"}, "next": "pause"},
            {"id": "pause", "wait": {"duration": "1s"}, "next": "two"},
            {"id": "two", "send": {"communicationId": "second"}, "next": "bye"},
            {"id": "bye", "exit": {"reason": "finished"}},
        ]
        await field.call("PATCH", "/v1/journeys/welcome", {"steps": steps})
        shown = await field.call("POST", "/v1/journeys/welcome:previewCarry", {"carry": "compatible"})
        confirmed = {"carry": "compatible", "token": shown["token"]}

        await field.call("POST", "/v1/journeys/welcome:publish", confirmed)
        for third in range(3):
            while await conn.fetchval("SELECT count(*) FROM executions WHERE version = 2") <= third * CROWD // 3:
                await asyncio.sleep(0.01)
            for number in (1, 2):
                await kill(stack.part(worker_name(number)))
        await field.ended(CROWD)

        assert shown["carriedCount"] == CROWD
        ended = await conn.fetch("SELECT outcome, version, count(*) FROM executions GROUP BY 1, 2")
        assert [tuple(row) for row in ended] == [("completed", 2, CROWD)]
        passed = await conn.fetch("SELECT step_id, count(*) FROM visits GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in passed] == [(step, CROWD) for step in ("bye", "one", "pause", "two")]
        accepted = Counter(receipt.key for receipt in field.provider.accepted())
        assert (len(accepted), set(accepted.values())) == (2 * CROWD, {1})
        await conn.close()
