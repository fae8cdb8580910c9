"""Starts that Temporal has still to be told of, while those who tell it are killed all the time."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.devstack.stack import SERVER, TEMPORAL, worker_name
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.checker import Effect
from tests.faults.checker.evidence import Outage
from tests.faults.checker.op_log import ENROLLMENT
from tests.faults.field import ENVIRONMENT, Field, field_on, kill
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600), in_soak_alone]

CROWD = 2_000
#: Who tells is killed so often, each time when so many more have been told.
KILLS, MORE = 20, 20
#: Seconds in which somebody is there who tells.
COMING_BACK = 60.0
#: Seconds after the last one until everything has been told, and until everybody has arrived.
TOLD, ARRIVED = 15.0, 240.0


async def test_two_thousand_starts_are_told_once_though_who_tells_them_is_killed_twenty_times(
    start_stack: StartStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = await start_stack(environment=ENVIRONMENT, temporal_address="", temporal_namespace="")
    everybody = [f"p-{n}" for n in range(CROWD)]
    clock = asyncio.get_running_loop().time
    async with field_on(stack, tmp_path) as field:
        await field.furnish()
        buyers = everybody[::2]
        for at in range(0, len(buyers), 500):
            await field.ingest(
                {"eventId": f"buy-{s}", "name": "purchase", "subjectId": s} for s in buyers[at : at + 500]
            )
        await stack.part(TEMPORAL).stop()
        for at in range(0, CROWD, 100):
            some = everybody[at : at + 100]
            effects = [Effect(ENROLLMENT, f"welcome/{s}") for s in some]
            await field.call("POST", "/v1/journeys/welcome:enroll", {"subjectIds": some}, effects=effects)
        assert await untold(field) == CROWD, "Temporal was told without being there"
        await stack.part(TEMPORAL).start()

        tellers = itertools.cycle([stack.part(name) for name in (worker_name(1), SERVER, worker_name(2))])
        left, began = [CROWD], datetime.now(UTC)
        while len(left) <= KILLS and left[-1]:
            await eventually(lambda: fewer_are_untold(field, max(left[-1] - MORE, 0)), within=COMING_BACK)
            left.append(await untold(field))
            await kill(next(tellers))
        last = clock()
        # Most of the time most of them were on their way back.
        field.outages.append(Outage(what="who tells", began=began, ended=datetime.now(UTC)))
        await eventually(lambda: fewer_are_untold(field, 0), within=ARRIVED)
        told = clock() - last
        await field.ended(CROWD, within=ARRIVED)

        with capsys.disabled():
            print(f"\nuntold at each kill: {left}; all told {told:.1f} s after the last")  # noqa: T201
        await field.check(everybody)
        assert len(left) > KILLS // 2, "all had been told before many had died"
        assert told <= TOLD


async def untold(field: Field) -> int:
    conn = await field.owner()
    try:
        found: int = await conn.fetchval("SELECT count(*) FROM outbox WHERE kind = 'start'")
        return found
    finally:
        await conn.close()


async def fewer_are_untold(field: Field, most: int) -> bool:
    return await untold(field) <= most
