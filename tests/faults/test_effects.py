"""Workers die in the middle of steps that change their subjects and call webhooks: each is done once all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.devstack.stack import worker_name
from tests.conftest import StartStack
from tests.faults.field import ENVIRONMENT, Field, field_on, kill
from tests.provider.provider import Mode

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

KEY = {"$path": "$steps.call.id"}
STEPS = ("call", "mark", "tell", "bye")


async def furnish(field: Field) -> None:
    body = {"data": {"subjectId": "{{ subject.id }}"}}
    journey = {
        "id": "effects",
        "name": "Effects",
        "triggerContractId": "signup",
        "steps": [
            {"id": "call", "webhook": {"url": field.provider.url, "body": body}, "next": "mark"},
            {"id": "mark", "updateSubject": {"attributes": {"key": KEY, "text": "{{ subject.id }}"}}, "next": "tell"},
            {"id": "tell", "emitEvent": {"eventName": "marked", "properties": {"key": KEY}}, "next": "bye"},
            {"id": "bye", "exit": {"reason": "finished"}},
        ],
    }
    await field.call("POST", "/v1/triggerContracts", {"id": "signup", "name": "Sign-up", "eventName": "signup"})
    await field.call("POST", "/v1/journeys", journey)
    await field.call("POST", "/v1/journeys/effects:publish", {})


async def test_workers_killed_in_the_middle_of_effects(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await furnish(field)
        await field.provider.set_mode(Mode(delay=0.3))
        everybody = {f"p-{n}" for n in range(60)}

        signing_up = asyncio.create_task(
            field.ingest({"eventId": f"up-{s}", "name": "signup", "subjectId": s} for s in sorted(everybody))
        )
        for round_no in range(4):
            before = len(field.provider.receipts())
            async with asyncio.timeout(60):
                while len(field.provider.receipts()) < before + 5:
                    await asyncio.sleep(0.01)
            await kill(stack.part(worker_name(1 + round_no % 2)))
        await signing_up
        await field.provider.set_mode(Mode())
        await field.ended(len(everybody))

        conn = await field.owner()
        ways = await conn.fetch(
            "SELECT array_agg(step_id || ':' || result ORDER BY seq, place) AS way FROM visits GROUP BY execution_id"
        )
        marked = await conn.fetch(
            "SELECT s.subject_id, s.revision, s.attributes ->> 'key' AS key, e.properties ->> 'key' AS told"
            "  FROM subjects AS s JOIN events AS e USING (project_no, bucket, subject_no)"
            "  JOIN event_names AS n USING (project_no, name_no) WHERE n.name = 'marked'"
        )
        await conn.close()
        assert Counter(tuple(row["way"]) for row in ways) == {
            tuple(f"{step}:executed" for step in STEPS): len(everybody)
        }
        assert {row["subject_id"] for row in marked} == everybody
        assert len(marked) == len(everybody), "an event came twice"
        assert all(row["revision"] == 2 and row["key"] and row["key"] == row["told"] for row in marked)
        accepted = Counter(receipt.key for receipt in field.provider.accepted())
        assert set(accepted.values()) == {1}
        assert len(accepted) == len(everybody), "a repeat under another key"
        assert len(field.provider.receipts()) > len(everybody), "no call was cut off: nothing was tried"
