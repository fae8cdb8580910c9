"""A provider that takes calls and does not answer, with real workflows: it costs those who need it, and nobody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from temporalio.client import Client

from tests.integration.journey_world import World
from tests.workflows.world import Running, Switchboard, worker
from workers.channels.channel import Accepted, Message, Refused
from workers.process import Limits

if TYPE_CHECKING:
    from asyncpg import Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


class Stalling(Switchboard):
    """A channel with two providers, of which one answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.answering = asyncio.Event()
        self.stalled = self.most_stalled = 0

    def provider_of(self, message: Message) -> str:
        return message.subject_id.partition("-")[0]

    async def send(self, message: Message) -> Accepted | Refused:
        if self.provider_of(message) == "stalled":
            self.stalled += 1
            self.most_stalled = max(self.most_stalled, self.stalled)
            await self.answering.wait()
            self.stalled -= 1
        return await super().send(message)


async def test_a_provider_that_does_not_answer_keeps_nobody_from_another_and_loses_nothing(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    channel = Stalling()
    async with worker(temporal, database, worker_pool, channel, limits=Limits(sends_per_channel=4, spare=2)):
        at_work = Running(furnished, temporal, worker_pool, channel)
        await at_work.publish(HELLO, BYE)
        await at_work.enroll(*(f"stalled-{number}" for number in range(20)))
        await at_work.until("(SELECT count(*) FROM sends) >= 4")

        await at_work.enroll(*(f"well-{number}" for number in range(10)))
        await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 10")
        assert {message.subject_id.partition("-")[0] for message in channel.messages} == {"well"}
        assert channel.most_stalled == 4

        channel.answering.set()
        await at_work.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = 30", within=40)

    assert len(channel.messages) == 30
    assert set(channel.asked.values()) == {1}
