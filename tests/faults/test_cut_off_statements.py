"""Connections break under every function that writes, before its statement is sent, and after its commit, of which
nobody hears then. All is done once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from temporalio.client import Client

from orchestrator.devstack.stack import SERVER, worker_name
from tests.acceptance.forgotten_person import dump
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.checker import at_rest, evidence_of, examine
from tests.faults.crashes.ground import Ground, crowd
from tests.faults.crashes.point import source_of
from tests.faults.crashes.scenarios import SCENARIOS
from tests.faults.crashes.travels import furnish
from tests.faults.cut_off import everything, rarities
from tests.faults.cut_off.breaks import AFTER, BEFORE, HURRIED, Breaks
from tests.faults.cut_off.unmet import IDLE, NEVER
from tests.faults.cut_off.writers import writers
from tests.faults.field import ENVIRONMENT, RECOVERY, field_on
from tests.faults.test_crash_points import BUSY, nobody_is_busy
from tests.soak import in_soak_alone

if TYPE_CHECKING:
    from asyncpg import Pool, Record

#: How many functions of `orchestrator.storage` write.
FUNCTIONS = 195

#: How often those are cut off who take a crowd through the journey of the field, at least.
LEAST = 40

#: Whoever is cut off there leaves others waiting for half a minute, which a short run does not have.
_LONG = {f"orchestrator.storage.outbox.claim {AFTER}"}

#: Seconds in which all of them have to be come to.
PATIENCE = 900.0

#: Seconds until what was cut off twice is done, and who did it leaves it for half a minute each time.
SLOW = 150.0

#: So many scenarios are in a turn at once, and they begin one only while fewer executions than this have something to
#: do: what comes in is as much as the machine can do, whatever else runs on it.
AT_ONCE, FEW = 12, 60

PARTS = (SERVER, worker_name(1), worker_name(2))


@pytest.mark.faults
@pytest.mark.timeout(180)
async def test_a_journey_whose_statements_are_cut_off_takes_everybody_the_whole_way_once(
    start_stack: StartStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks = Breaks(tmp_path / "breaks", writers())
    stack = await start_stack(environment={**ENVIRONMENT, **breaks.environment()})
    began = time.monotonic()
    async with field_on(stack, tmp_path) as field:
        breaks.arm(breaks.names - _LONG)
        await field.furnish(wait="1s")
        people = crowd("p", 40)
        await field.sign_up(people)
        await field.ended(len(people))

        met = breaks.struck()
        with capsys.disabled():
            print(f"\n{len(met)} broken statements in {time.monotonic() - began:.0f} s")  # noqa: T201
        assert len(met) >= LEAST
        assert breaks.outside() == set()
        assert [stack.part(name).restarts for name in PARTS] == [0, 0, 0]
        await field.check(people)


@pytest.mark.faults
@pytest.mark.timeout(1500)
@in_soak_alone
async def test_every_statement_that_writes_is_cut_off_before_and_after_and_all_is_done_once(
    start_stack: StartStack, temporal: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks = Breaks(tmp_path / "breaks", writers())
    stack = await start_stack(environment={**ENVIRONMENT, **breaks.environment(HURRIED)})
    began = time.monotonic()
    async with field_on(stack, tmp_path) as field, asyncpg.create_pool(stack.addresses.database_url) as rows:
        places = asyncio.Semaphore(AT_ONCE)

        @asynccontextmanager
        async def turns() -> AsyncIterator[None]:
            async with places:
                await eventually(lambda: few_are_busy(rows), within=PATIENCE)
                yield

        ground = Ground(field, breaks, None, rows, temporal, PATIENCE, turns=turns, within=SLOW)
        await furnish(ground)
        never = {f"{name} {when}" for name in NEVER for when in (BEFORE, AFTER)}
        breaks.arm(breaks.names - never, idle={f"{name} {AFTER}" for name in IDLE})
        scenarios = [*SCENARIOS.values(), everything.changing, *rarities.SCENARIOS]
        async with asyncio.TaskGroup() as group:
            for scenario in scenarios:
                group.create_task(scenario(ground))
        met = time.monotonic() - began
        await eventually(lambda: nobody_is_busy(rows), within=RECOVERY)
        for condition in ground.rests:
            await ground.until(condition)
        await at_rest(stack, within=RECOVERY)

        with capsys.disabled():
            print(f"\n{len(breaks.struck())} broken statements in {met:.0f} s")  # noqa: T201
        assert set(breaks.struck()) == breaks.names - never
        assert breaks.outside() == set()
        assert [stack.part(name).restarts for name in PARTS] == [0, 0, 0]
        found = {"database": await dump(stack.addresses.database_url)}
        found |= {part.name: part.process.log.read_bytes() for part in stack.parts}
        evidence = await evidence_of(
            stack,
            ops=field.log.ops(),
            receipts=field.provider.receipts,
            patience=timedelta(seconds=SLOW),
            forgotten=ground.forgotten,
            places=found,
        )
        logs = [line for line in evidence.logs if line.message not in rarities.SAID_OF_THEM]
        examine(replace(evidence, logs=logs)).require_sound()
        for check in ground.checks:
            await check()


async def few_are_busy(rows: Pool[Record]) -> bool:
    return bool(await rows.fetchval(BUSY) < FEW)


def test_functions_that_write_are_found_by_what_they_say() -> None:
    found = writers()
    names = {f"{module}.{name}" for module, names in found.items() for name in names}

    assert "orchestrator.storage.sends.reserve" in names
    assert "orchestrator.storage.journeys.find" not in names
    assert len(names) == FUNCTIONS
    assert IDLE.keys() | NEVER.keys() <= names
    assert not IDLE.keys() & NEVER.keys()


def test_what_is_hurried_is_there_once() -> None:
    for module, changes in HURRIED.items():
        source = source_of(module)
        for was, instead in changes:
            assert source.count(was) == 1, was
            source = source.replace(was, instead)
        compile(source, module, "exec")
