"""A channel with a rate, two workers, and a provider that writes down when it is called."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from orchestrator.devstack.stack import worker_name
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, Field, field_on, kill
from tests.provider.client import Receipt
from tests.provider.provider import Mode

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

CROWD = 160
RATE, BURST = 20, 5

#: Calls that a second may hold more than begin in it: one that took longer to arrive meets later ones.
LATE = 3


async def test_two_workers_together_keep_the_rate_though_they_are_killed_and_the_provider_says_no(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        await field.furnish(wait="1s")
        rate = {"channel": "webhook", "ratePerSecond": RATE, "burst": BURST}
        await field.call("PATCH", "/v1/projects/default", {"settings": {"channelRates": [rate]}})
        people = [f"s-{number}" for number in range(0, 2 * CROWD, 2)]  # each is sent two messages
        await field.sign_up(people)

        await _called(field, CROWD // 4)
        await kill(stack.part(worker_name(1)))
        await _called(field, CROWD)
        await field.provider.set_mode(Mode(kind="fail", status=429, retry_after="3", times=1))
        await _called(field, CROWD + CROWD // 4)
        for number in (1, 2):
            await kill(stack.part(worker_name(number)))
        await field.ended(CROWD, within=120)

        await field.check(people)
        calls = [receipt.at for receipt in field.provider.receipts()]
        assert _most_in_a_second(calls) <= RATE + BURST + LATE
        assert calls[-1] - calls[0] >= (2 * CROWD - BURST) / RATE
        refused = next(receipt.at for receipt in field.provider.receipts() if _is_refusal(receipt, field))
        following = [at for at in calls if refused + 0.5 < at < refused + 2.9]
        assert following == [], "the channel was to be left alone"
        conn = await field.owner()
        assert await conn.fetchval("SELECT count(*) FROM waiting_sends") == 0
        await conn.close()


def _is_refusal(receipt: Receipt, field: Field) -> bool:
    keys = {one.key for one in field.provider.accepted() if one.at <= receipt.at}
    return not receipt.accepted and receipt.key not in keys


def _most_in_a_second(calls: list[float]) -> int:
    calls = sorted(calls)
    return max(sum(at <= begin + 1.0 for at in islice(calls, number, None)) for number, begin in enumerate(calls))


async def _called(field: Field, times: int) -> None:
    async def called() -> bool:
        return len(field.provider.receipts()) >= times

    await eventually(called, within=90)
    await asyncio.sleep(0)
