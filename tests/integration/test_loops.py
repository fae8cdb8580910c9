"""Journeys that start themselves by what they send, and what whoever asks why is told of those that went round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.application.deliveries import Deliveries
from orchestrator.application.entry_explanations import explain_entry
from orchestrator.application.ingest import Ingest
from orchestrator.application.sending import Receipt, Reserved, Sending
from orchestrator.domain.delivery import Kind, Report
from orchestrator.domain.entry import MAX_HOPS
from tests.integration.road import BYE, Road
from tests.integration.test_effects import Doing
from tests.integration.test_held_hops import AGAIN

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


class Circle:
    """Ann, in journeys that start on what they do."""

    def __init__(self, road: Road) -> None:
        self.road, self.world = road, road.crowd.world
        self.doing = Doing(road)
        self.sending = Sending(road.crowd.transactions, road.versions)
        self.deliveries = Deliveries(self.world.transactions, Ingest(self.world.transactions), road.versions, b"s" * 32)

    async def is_under_way(self) -> bool:
        return bool(await self.road.owner.fetchval("SELECT EXISTS (SELECT FROM executions WHERE outcome IS NULL)"))

    async def send(self) -> None:
        """The message goes out, and its provider says that it was delivered, to whom it may concern twice."""
        question = await self.doing.question()
        reserved = await self.sending.reserve(question)
        assert isinstance(reserved, Reserved)
        await self.sending.settle(question, reserved, Receipt(state="sent"))
        report = Report(
            kind=Kind.DELIVERED,
            key=reserved.idempotency_key,
            provider_id="",
            report_id="",
            occurred_at=None,
            link="",
        )
        await self.deliveries.take(self.world.scope, [report, report])
        await self.road.crowd.settle()

    async def entered(self) -> list[int]:
        return [row[0] for row in await self.road.owner.fetch("SELECT hops FROM enrollments ORDER BY hops")]

    async def refused(self) -> dict[str, int]:
        rows = await self.road.owner.fetch("SELECT reason, sum(total)::int FROM refusal_counts GROUP BY reason")
        return {row[0]: row[1] for row in rows}

    async def told(self) -> list[str | None]:
        """What is said of the newest events, newest first."""
        explained = await self.world.look(explain_entry, self.road.versions, "welcome", "ann")
        return [heard.refusal for heard in explained.events]


async def test_a_journey_that_starts_on_the_delivery_of_what_it_sends_ends(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    circle = Circle(await Road.make(owner, api_pool, worker_pool))
    settings = {"url": "https://example.com"}
    await circle.world.add_communication("offer", "marketing", channel="webhook", settings=settings)
    offer = {"id": "offer", "send": {"communicationId": "offer"}, "next": "bye"}
    contract_id = await circle.road.starts_on("message_delivered")
    await circle.road.publish(offer, BYE, triggerContractId=contract_id)
    await circle.road.enroll("ann")

    for _ in range(MAX_HOPS + 1):
        await circle.send()

    assert not await circle.is_under_way()
    assert await circle.entered() == list(range(MAX_HOPS + 1))
    assert await circle.refused() == {"loop": 1}
    assert (await circle.told())[0] == "loop"


async def test_whoever_asks_is_told_that_an_event_went_round_too_often(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    circle = Circle(await Road.make(owner, api_pool, worker_pool))
    await circle.road.publish(AGAIN, BYE, triggerContractId=await circle.road.starts_on("purchase"))
    await circle.road.crowd.happened(("ann", "purchase", None))
    await circle.road.crowd.settle()
    await owner.execute("UPDATE enrollments SET hops = $1", MAX_HOPS - 1)

    for _ in range(2):
        await circle.doing.do(await circle.doing.question())
        await circle.road.crowd.settle()

    assert await circle.refused() == {"loop": 1}
    assert await circle.told() == ["loop", "re_entry", "re_entry"]
