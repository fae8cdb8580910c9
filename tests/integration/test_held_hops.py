"""Executions that start one another do not get round the guard against endless loops by being held on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.entry import MAX_HOPS
from tests.integration.road import BYE, Road
from tests.integration.test_effects import Doing
from tests.integration.test_held_entries import HOLD, PRO, SECRET, Door

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

AGAIN: dict[str, Any] = {
    "id": "again", "emitEvent": {"eventName": "purchase", "properties": {}}, "next": "bye",
}  # fmt: skip
MARK: dict[str, Any] = {"id": "mark", "updateSubject": {"attributes": {"tier": "pro"}}, "next": "bye"}


class Loop(Door):
    """A journey `welcome` whose executions start it again."""

    def __init__(self, road: Road, pool: Pool[Record]) -> None:
        super().__init__(road, pool)
        self.doing = Doing(road)

    async def start(self, **definition: Any) -> None:
        pros = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
        await self.world.do(audiences.create, "pros", pros)
        await self.road.publish(AGAIN, BYE, triggerContractId=await self.road.starts_on("purchase"), **definition)
        await self.known(ann={"tier": "pro"})
        await self.purchase("ann")

    async def go_round(self) -> None:
        """The execution under way does its step, and ends; whoever hears of it decides."""
        await self.doing.do(await self.doing.question())
        await self.crowd.settle()

    async def hops(self, table: str = "enrollments") -> list[int]:
        return [row[0] for row in await self.owner.fetch(f"SELECT hops FROM {table} ORDER BY hops")]


@pytest.fixture
async def loop(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Loop:
    return Loop(await Road.make(owner, api_pool, worker_pool), worker_pool)


async def test_a_loop_through_a_journey_that_is_paused_each_time_ends(loop: Loop) -> None:
    await loop.start(**HOLD)

    for hops in range(1, MAX_HOPS + 1):
        await loop.pause()
        await loop.go_round()
        assert await loop.hops("held_entries") == [hops]
        await loop.resume()
        await loop.release()
    assert await loop.hops() == list(range(MAX_HOPS + 1))
    await loop.pause()
    await loop.go_round()

    # It never gets better: nobody waits to be told.
    assert (await loop.waiting(), await loop.refused()) == (0, {"loop": 1})


async def test_a_loop_through_a_journey_that_waits_for_late_data_each_time_ends(loop: Loop) -> None:
    await loop.start(audienceId="pros", entryGrace="30m")

    for hops in range(1, MAX_HOPS + 1):
        await loop.known(ann={"tier": "free"})
        await loop.go_round()
        assert await loop.hops("held_entries") == [hops]
        await loop.known(ann={"n": hops})  # looked at, and it waits on
        await loop.known(ann={"tier": "pro"})
    assert await loop.hops() == list(range(MAX_HOPS + 1))
    await loop.known(ann={"tier": "free"})
    await loop.go_round()

    assert (await loop.waiting(), await loop.refused()) == (0, {"loop": 1})


async def test_whoever_waits_because_an_execution_moved_them_keeps_its_hops_whoever_they_become(loop: Loop) -> None:
    await loop.crowd.segment("pros", PRO)
    await loop.crowd.run("build")
    await loop.road.publish(BYE, entryCondition={"segmentId": "pros"}, **HOLD)
    await loop.road.publish(MARK, BYE, journey_id="mark")
    await loop.known(ann={}, bob={})
    await loop.road.enroll("ann", journey_id="mark")
    await loop.pause()

    await loop.go_round()
    await loop.world.do(merge, SECRET, RuleBook(), "ann", into="bob")
    await loop.crowd.settle()
    await loop.resume()
    await loop.release()

    rows = await loop.owner.fetch("SELECT entry_kind, hops FROM enrollments WHERE journey_id = 'welcome'")
    assert [tuple(row) for row in rows] == [("segment", 1)]
