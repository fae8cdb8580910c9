"""Journeys that really run: a project, a worker in this process, and a channel that can be told to fail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.runtime import Runtime

from orchestrator.application import publishing
from orchestrator.application.enrollment import Enrolled, enroll
from orchestrator.application.journeys import Changes, update
from orchestrator.application.relay import Relay
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.storage.erasure_ledger import ErasureLedger
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.executions import Executions
from tests.integration.journey_world import ANY_STATE, World
from workers.channels.channel import Accepted, ChannelUnavailable, Message, OnAmbiguity, Refused
from workers.channels.registry import egress_of
from workers.channels.rendering import Renderer
from workers.process import Limits, Parts, running
from workers.step_calls import StepCalls

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Answer = Callable[[Message], Accepted | Refused]


class Switchboard:
    """A channel whose answers the test decides; it remembers every key it was given."""

    name = "log"
    html = False
    timeout = timedelta(seconds=5)

    def __init__(
        self, *, key_life: timedelta | None = timedelta(days=1), on_ambiguity: OnAmbiguity = OnAmbiguity.AT_MOST_ONCE
    ) -> None:
        self.key_life = key_life
        self.on_ambiguity = on_ambiguity
        self.asked: Counter[str] = Counter()
        self.messages: list[Message] = []
        #: When it was called, by a clock that only goes on.
        self.at: list[float] = []
        self.answers: list[Accepted | Refused | ChannelUnavailable] = []
        self.called = asyncio.Event()

    def provider_of(self, message: Message) -> str:
        return self.name

    async def send(self, message: Message) -> Accepted | Refused:
        self.asked[message.idempotency_key] += 1
        self.messages.append(message)
        self.at.append(time.monotonic())
        self.called.set()
        answer = self.answers.pop(0) if self.answers else Accepted(provider_id="p-1")
        if isinstance(answer, ChannelUnavailable):
            raise answer
        return answer

    async def close(self) -> None:
        pass


class Slow(Switchboard):
    """A provider that answers when it is let. Its calls are counted as they come; `told` is set once Temporal has told
    the try in which it was called to end.
    """

    def __init__(
        self, *, key_life: timedelta | None = timedelta(days=1), on_ambiguity: OnAmbiguity = OnAmbiguity.AT_MOST_ONCE
    ) -> None:
        super().__init__(key_life=key_life, on_ambiguity=on_ambiguity)
        self.calls = 0
        self.taken = asyncio.Event()
        self.told = asyncio.Event()
        self.answering = asyncio.Event()

    async def send(self, message: Message) -> Accepted | Refused:
        self.calls += 1
        self.taken.set()
        hearing = asyncio.create_task(self._hear())
        try:
            await self.answering.wait()
        finally:
            hearing.cancel()
        return await super().send(message)

    async def _hear(self) -> None:
        await activity.wait_for_cancelled()
        self.told.set()


class Running:
    """A world in which executions run."""

    def __init__(
        self, world: World, client: Client, pool: Pool[Record], channel: Switchboard, *, searchable: bool = False
    ) -> None:
        """`searchable`: what is enrolled here shows its search attributes."""
        self.world = world
        self.searchable = searchable
        self.client = client
        self.channel = channel
        self.transactions = Transactions(pool)
        self.owner: Connection[Record] = world.owner

    async def publish(
        self, *steps: dict[str, Any], journey_id: str = "welcome", goal: str | None = None, **definition: Any
    ) -> None:
        await self.world.draft(journey_id, {"steps": list(steps), **definition})
        if goal is not None:
            await self.world.do(update, journey_id, Changes(goal_event=goal), ANY_STATE)
        await self.publish_draft(journey_id)

    async def publish_draft(self, journey_id: str = "welcome") -> None:
        await self.world.do(publishing.publish, journey_id, ANY_STATE)

    async def enroll(self, *subject_ids: str, journey_id: str = "welcome") -> Sequence[Notice]:
        """Enroll and start."""
        async with self.transactions.write(None) as conn:
            enrolled: Enrolled = await enroll(conn, self.world.scope, Versions(), journey_id, subject_ids)
        executions = Executions(self.client, eager=True, searchable=self.searchable)
        await Relay(self.transactions, executions).tell(enrolled.told)
        return enrolled.told

    async def until(self, condition: str, *args: object, within: float = 20) -> None:
        """Wait until this SQL condition holds."""
        async with asyncio.timeout(within):
            while not await self.owner.fetchval(f"SELECT {condition}", *args):
                await asyncio.sleep(0.02)

    async def visits(self) -> list[tuple[str, str, str | None]]:
        rows = await self.owner.fetch("SELECT step_id, result, reason FROM visits ORDER BY seq, place")
        return [(row[0], row[1], row[2]) for row in rows]


@asynccontextmanager
async def worker(
    client: Client,
    dsn: str,
    pool: Pool[Record],
    *channels: Switchboard,
    searchable: bool = False,
    limits: Limits | None = None,
    ledger: ErasureLedger | None = None,
    build: WorkerDeploymentVersion | None = None,
) -> AsyncIterator[None]:
    """A worker in this process, whose webhooks may go to this machine."""
    egress = egress_of(["127.0.0.0/8"], plain_http=True)
    async with Renderer() as renderer, StepCalls(egress=egress) as calls:
        parts = Parts(
            dsn=dsn,
            pool=pool,
            client=client,
            channels={channel.name: channel for channel in channels},
            calls=calls,
            renderer=renderer,
            meter=Runtime.default().metric_meter,
            searchable=searchable,
            limits=limits or Limits(),
            ledger=ledger,
            build=build,
        )
        async with running(parts):
            yield
