"""Entries that are on their way into a journey while their subject is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.domain.erasure import Erasure
from tests.workflows.conftest import at_work, furnished
from tests.workflows.test_erasures import PAUSE, forget, receipt, workflows
from tests.workflows.test_journey_execution import BYE, HELLO
from tests.workflows.world import Running

__all__ = ["at_work", "furnished"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]


async def test_entries_that_meet_it_leave_no_run_behind(at_work: Running) -> None:
    await at_work.publish(HELLO, PAUSE, BYE)
    people = [f"p-{number}" for number in range(10)]

    async def enroll(who: str) -> None:
        await at_work.enroll(who)

    async def meet(who: str) -> Erasure:
        entering = asyncio.create_task(enroll(who))
        # Each a little further on its way than the one before.
        for _ in range(people.index(who)):
            async with at_work.transactions.read(None) as conn:
                await conn.execute("SELECT")
        erasure = await forget(at_work, who)
        await asyncio.gather(entering, return_exceptions=True)
        return erasure

    erasures = await asyncio.gather(*map(meet, people))
    for erasure in erasures:
        await receipt(at_work, erasure)

    assert await workflows(at_work.client) == set()
    open_or_named = "SELECT count(*) FROM executions WHERE outcome IS NULL OR workflow_id LIKE 'disp:%'"
    assert await at_work.owner.fetchval(open_or_named) == 0
