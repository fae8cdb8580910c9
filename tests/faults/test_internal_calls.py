"""Servers and workers die while an operator's machinery starts executions and works through entries."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.devstack.stack import SERVER, worker_name
from tests.conftest import StartStack
from tests.faults.field import ENVIRONMENT, Field, field_on, kill

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PEOPLE = [f"p-{number}" for number in range(120)]


async def test_executions_that_were_started_while_the_server_died_run_once(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish()
        buyers = [who for who in PEOPLE if int(who.rsplit("-", 1)[1]) % 2 == 0]
        await field.ingest({"eventId": f"buy-{who}", "name": "purchase", "subjectId": who} for who in buyers)

        starting = asyncio.create_task(_start_twice(field, PEOPLE))
        for _ in range(3):
            await field.serving()
            before = await _enrolled(field)
            async with asyncio.timeout(60):
                while await _enrolled(field) < before + 10:  # some way into it
                    await asyncio.sleep(0.02)
            assert not starting.done(), "all were started before the server died: nothing was tried"
            await kill(stack.part(SERVER))
        answers = await starting
        await field.ended(len(PEOPLE))

        await field.check(PEOPLE)
        assert all(first == again for first, again in answers), "two executions under one key"


async def test_entries_that_were_dispatched_while_workers_died_are_acted_on_once(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish()
        over = asyncio.Event()

        async def dispatch() -> None:
            while not over.is_set():
                await _call(field, "dispatch", {})

        dispatching = [asyncio.create_task(dispatch()) for _ in range(3)]
        signing_up = asyncio.create_task(field.sign_up(PEOPLE))
        for number in (1, 2, 1):
            await asyncio.sleep(0.3)  # some way into it
            await kill(stack.part(worker_name(number)))
        await kill(stack.part(SERVER))
        await signing_up
        await field.ended(len(PEOPLE))
        over.set()
        await asyncio.gather(*dispatching)

        await field.check(PEOPLE)


async def _start_twice(field: Field, people: list[str]) -> list[tuple[Any, Any]]:
    """Each is started, and once more when that was answered; the executions that were told of."""
    gate = asyncio.Semaphore(8)

    async def start(who: str) -> tuple[Any, Any]:
        request = {"journeyId": "welcome", "endUserId": who, "entryKey": f"up-{who}", "event": {"name": "signup"}}
        async with gate:
            first, again = [await _call(field, "start-execution", request) for _ in range(2)]
        assert again["already"]
        return first["executionId"], again["executionId"]

    return await asyncio.gather(*map(start, people))


async def _call(field: Field, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """As `Field.call`, with the internal token."""
    bearer = {"Authorization": f"Bearer {field.stack.keys.internal}"}
    return await field.call(
        "POST", f"/api/journeys/internal/{name}", {"projectKey": "default", **request}, headers=bearer
    )


async def _enrolled(field: Field) -> int:
    conn = await field.owner()
    try:
        count: int = await conn.fetchval("SELECT count(*) FROM enrollments")
        return count
    finally:
        await conn.close()
