"""Whoever came to a paused journey comes in after it was resumed, once, though workers die all the while."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from orchestrator.devstack.stack import worker_name
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, field_on, kill

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

CROWD = 1500
STEPS = [
    {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"},
    {"id": "bye", "exit": {"reason": "finished"}},
]

# Enrollments, the subjects they are of, those with the trigger of then, executions, and what is left undone.
_LEFT = """
SELECT count(*), count(DISTINCT n.subject_no), count(*) FILTER (WHERE n.entry_key = 'e-' || s.subject_id),
       (SELECT count(DISTINCT workflow_id) FROM executions), (SELECT count(*) FROM held_entries)
  FROM enrollments AS n JOIN subjects AS s USING (project_no, bucket, subject_no)
"""


async def test_workers_killed_while_entries_are_held_and_let_in(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        journey = {"id": "long", "name": "Long", "whilePaused": "hold", "entryCondition": {"eventName": "signup"}}
        await field.call("POST", "/v1/journeys", {**journey, "steps": STEPS})
        await field.call("POST", "/v1/journeys/long:publish", {})
        await field.call("POST", "/v1/journeys/long:pause", {})
        conn = await field.owner()

        async def held(at_most: int, at_least: int = 0) -> bool:
            count: int = await conn.fetchval("SELECT count(*) FROM held_entries")
            return at_least <= count <= at_most

        for start in range(0, CROWD, 500):
            people = [f"p-{number}" for number in range(start, start + 500)]
            await field.ingest({"eventId": f"e-{p}", "name": "signup", "subjectId": p} for p in people)
            await kill(stack.part(worker_name(1 + start // 500 % 2)))
        await eventually(partial(held, CROWD, CROWD), within=60)
        assert (await field.http.get("/v1/journeys/long")).json()["heldEntrants"] == CROWD

        await field.call("POST", "/v1/journeys/long:resume", {})
        for third in range(1, 3):
            await eventually(partial(held, CROWD - third * CROWD // 3), within=60)
            for number in (1, 2):
                await kill(stack.part(worker_name(number)))
        await eventually(partial(held, 0), within=60)

        left = await conn.fetchrow(_LEFT)
        assert tuple(left or ()) == (CROWD, CROWD, CROWD, CROWD, 0)

        async def all_told() -> bool:
            return bool(await conn.fetchval("SELECT NOT EXISTS (SELECT FROM outbox)"))

        await eventually(all_told, within=60)
        await conn.close()
