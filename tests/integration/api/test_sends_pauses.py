"""Pausing sends as callers see it: in force at once, answered when what was begun before is in the ledger."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator.storage import sends_pauses
from tests.integration.api.conftest import OWNER_KEY, Served
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Record


async def pause(served: Served) -> Any:
    answer = await served.http.client.post(
        "/v1/sendsPauses:pause",
        json={"allJourneys": True},
        headers={"X-Api-Key": OWNER_KEY, "Idempotency-Key": "stop"},
    )
    return answer.json()


async def test_a_pause_is_in_force_before_it_is_answered_and_answered_when_nobody_begins_a_send_any_more(
    served: Served, owner: Connection[Record]
) -> None:
    project_no = await owner.fetchval("SELECT project_no FROM projects WHERE project_id = 'default'")
    answers = []
    for _ in range(2):  # the same request again waits as well
        async with owner.transaction():
            await sends_pauses.hold_off(owner, project_no)
            pausing = asyncio.ensure_future(pause(served))
            await waits_for_a_lock(pausing, owner)
            assert await owner.fetchval("SELECT count(*) FROM sends_pauses") == 1
        answers.append(await pausing)

    assert "pausedAt" in answers[0]
    assert answers[1] == answers[0]
