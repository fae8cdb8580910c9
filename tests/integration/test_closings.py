"""A journey that ends its executions: whoever asks does not wait, and each of them is told once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from orchestrator.application import lifecycle
from orchestrator.application.closings import Closings
from orchestrator.application.transactions import Transactions
from orchestrator.domain.journey import OnArchive
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.lost_commits import fail_first_commit

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    for journey_id in ("welcome", "other", "third"):
        await made.draft(journey_id)
    return made


async def poked(world: World) -> Counter[UUID]:
    return Counter(row["execution_id"] for row in await world.owner.fetch("SELECT execution_id FROM outbox"))


async def lay(world: World, count: int, journey_id: str = "welcome") -> Counter[UUID]:
    """So many executions that run, and one that has ended."""
    await world.lay_execution("over", journey_id=journey_id, outcome="completed")
    return Counter([await world.lay_execution(f"s{number}", journey_id=journey_id) for number in range(count)])


async def test_running_executions_are_told_in_pages_after_the_call(world: World, worker_pool: Pool[Record]) -> None:
    running = await lay(world, 7)
    await lay(world, 1, "other")
    closings = Closings(Transactions(worker_pool), page=3)

    archived = await world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)
    told = [(await poked(world)).total()]
    while await closings.step():
        told.append((await poked(world)).total())

    assert archived.running == 7
    assert told == [0, 3, 6, 7]
    assert await poked(world) == running
    assert await world.owner.fetchval("SELECT count(*) FROM journey_closings") == 0


async def test_a_page_that_is_cut_off_is_begun_again(world: World, worker_pool: Pool[Record]) -> None:
    running = await lay(world, 7)
    closings = Closings(Transactions(worker_pool), page=3)
    await world.do(lifecycle.delete, "welcome", ANY_STATE, force=True)
    await closings.step()
    await fail_first_commit(world.owner, "outbox")

    with pytest.raises(asyncpg.RaiseError):
        await closings.step()
    while await closings.step():
        pass

    assert await poked(world) == running


async def test_processes_share_the_journeys_and_tell_nobody_twice(world: World, worker_pool: Pool[Record]) -> None:
    running = await lay(world, 20) + await lay(world, 20, "other") + await lay(world, 20, "third")
    for journey_id in ("welcome", "other", "third"):
        await world.do(lifecycle.archive, journey_id, OnArchive.END, ANY_STATE)

    transactions = Transactions(worker_pool)

    async def anything_left() -> bool:
        async with transactions.read(None) as conn:
            return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM journey_closings)"))

    async def work() -> None:
        closings = Closings(transactions, page=3)
        while await closings.step() or await anything_left():
            pass

    await asyncio.gather(*(work() for _ in range(4)))

    assert await poked(world) == running


async def test_whoever_has_nobody_under_way_asks_for_nothing(world: World) -> None:
    await world.do(lifecycle.delete, "other", ANY_STATE)

    assert await world.owner.fetchval("SELECT count(*) FROM journey_closings") == 0
