"""Processes die at any time. Afterwards nothing is lost, nothing is doubled, and all goes on within a minute."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.devstack.stack import POSTGRES, SERVER, TEMPORAL, worker_name
from tests.conftest import StartStack
from tests.faults.checker import Effect
from tests.faults.checker.op_log import ENROLLMENT
from tests.faults.field import ENVIRONMENT, Field, field_on, kill
from tests.provider.provider import Mode

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def people(count: int) -> list[str]:
    return [f"p-{n}" for n in range(count)]


async def test_workers_killed_in_mid_send(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish()
        await field.provider.set_mode(Mode(delay=0.5))
        everybody = people(80)

        signing_up = asyncio.create_task(field.sign_up(everybody))
        for round_no in range(6):
            await _until_sending(field)
            await kill(stack.part(worker_name(1 + round_no % 2)))
        await signing_up
        await field.provider.set_mode(Mode())
        await field.ended(len(everybody))

        await field.check(everybody)
        assert len(field.provider.receipts()) > len(field.provider.accepted()), "no send was cut off: nothing was tried"


async def _until_sending(field: Field) -> None:
    """Wait for a request that the provider has not answered yet."""
    before = len(field.provider.receipts())
    async with asyncio.timeout(30):
        while len(field.provider.receipts()) < before + 3:
            await asyncio.sleep(0.01)


async def test_the_server_killed_between_commit_and_start(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish()
        everybody = people(200)
        buyers = [s for s in everybody if int(s.rsplit("-", 1)[1]) % 2 == 0]
        await field.ingest({"eventId": f"buy-{s}", "name": "purchase", "subjectId": s} for s in buyers)

        conn, untold = await field.owner(), 0
        for at in range(0, len(everybody), 50):
            chunk = everybody[at : at + 50]
            entered = [Effect(ENROLLMENT, f"welcome/{s}") for s in chunk]
            answer = await field.call("POST", "/v1/journeys/welcome:enroll", {"subjectIds": chunk}, effects=entered)
            await kill(stack.part(SERVER))  # it was about to tell Temporal
            assert answer["enrolled"] == len(chunk)
            untold += await conn.fetchval("SELECT count(*) FROM outbox WHERE kind = 'start'")
        await conn.close()
        assert untold > 0, "all had been told before the server died: nothing was tried"
        await field.ended(len(everybody))

        await field.check(everybody)


async def test_the_server_killed_in_mid_ingest(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        batches = [
            [{"eventId": f"e-{b}-{n}", "name": "seen", "subjectId": f"p-{n % 50}"} for n in range(500)]
            for b in range(120)
        ]

        async def send_all() -> None:
            for batch in batches:
                await field.ingest(batch)

        sending = asyncio.create_task(send_all())
        for _ in range(4):
            await field.serving()
            await asyncio.sleep(0.3)  # some way into the next batches
            assert not sending.done(), "all was sent before the server died: nothing was tried"
            await kill(stack.part(SERVER))
        await sending

        conn = await field.owner()
        stored = await conn.fetch("SELECT event_id FROM events")
        counted = await conn.fetchval("SELECT sum(total) FROM subject_event_state WHERE name_no > 0")
        by_day = await conn.fetchval("SELECT sum(total) FROM subject_event_days")
        await conn.close()
        assert len(stored) == len(field.acknowledged) == 120 * 500
        assert {row["event_id"] for row in stored} == field.acknowledged
        assert counted == by_day == 120 * 500


async def test_postgres_killed(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT, database_url="")
    async with field_on(stack, tmp_path) as field:
        await _kill_in_mid_wait(field, POSTGRES)


async def test_temporal_killed(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT, temporal_address="", temporal_namespace="")
    async with field_on(stack, tmp_path) as field:
        await _kill_in_mid_wait(field, TEMPORAL)


async def _kill_in_mid_wait(field: Field, part: str) -> None:
    """Three times, each with people of its own who are on their way."""
    await field.furnish()
    everybody = people(90)
    for start in range(0, len(everybody), 30):
        some = everybody[start : start + 30]
        signing_up = asyncio.create_task(field.sign_up(some))
        waiting = await field.asleep(some, least=10)
        killed_at = datetime.now(UTC)
        await field.knock_out(part)
        await signing_up
        await field.ended(start + len(some))
        caught = waiting & await field.ended_after(some, killed_at)
        assert len(caught) >= 10, "they had arrived before it died: nothing was tried"

    await field.check(everybody)
