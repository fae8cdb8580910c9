"""Where lives are lived: one project, one worker, and every life beside the others, with a journey and a subject of its
own, both under its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.application import canceling, preferences, projects, segments, subjects
from orchestrator.application.ingest import Ingest
from orchestrator.application.relay import Relay
from orchestrator.domain.channel_rate import ChannelRate
from orchestrator.domain.event import Event
from orchestrator.domain.gates import FrequencyCap
from orchestrator.domain.hours import Hours, QuietHours
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.domain.subject import SubjectPatch
from orchestrator.storage import inbox_entries
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.executions import Executions
from tests.eventually import eventually
from tests.integration.channels.receiver import one_after_the_other, receiving
from tests.integration.journey_world import ANY_STATE, World
from tests.workflows.world import Running, Switchboard, worker
from workers.channels.channel import Accepted, ChannelUnavailable, Message, Refused

if TYPE_CHECKING:
    from asyncpg import Pool, Record

Json = dict[str, Any]
Answer = Accepted | Refused | ChannelUnavailable

#: Stands in steps for the server that their webhooks call.
RECEIVER = "http://receiver.invalid/"
#: A channel whose provider knows no keys, and which has a rate.
KEYLESS = "webhook"
#: The time zone of those who sleep while all others are awake.
ASLEEP_NOW = "Etc/GMT-12"

SECRET = b"s" * 48
#: How long a life takes at most, in seconds, on a busy machine.
PATIENCE = 45.0
#: Lives that are lived at once.
AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The steps of a journey, and what becomes of somebody who travels it.

    `answers`: of the provider, in their order; then it accepts. `received`: whole answers of the webhooks' server.
    `segment`: there is a list of the life's name. `before` happens before the subject comes in, by `enters`, and
    `during` while it travels. `held`: the provider answers no message before `let_go`. `ends`: or it is left asleep;
    `canceled`: or somebody cancels its workflow in Temporal.
    """

    steps: Sequence[Json]
    definition: Json = field(default_factory=dict)
    goal: str | None = None
    answers: Sequence[Answer] = ()
    received: Sequence[bytes] = ()
    segment: bool = False
    before: Happening | None = None
    enters: Happening | None = None
    during: Happening | None = None
    held: bool = False
    ends: bool = True
    canceled: bool = False


class Cast(Switchboard):
    """A provider that answers each journey's messages as its life has it."""

    def __init__(self, lives: Mapping[str, Life], *, name: str, key_life: timedelta | None) -> None:
        super().__init__(key_life=key_life)
        self.name = name
        self._left = {journey_id: list(life.answers) for journey_id, life in lives.items()}
        self.held = {journey_id: asyncio.Event() for journey_id, life in lives.items() if life.held}

    async def send(self, message: Message) -> Accepted | Refused:
        if message.journey_id in self.held:
            await self.held[message.journey_id].wait()
        left = self._left[message.journey_id]
        self.answers = [left.pop(0)] if left else []
        return await super().send(message)


class Scene:
    """One life while it is lived."""

    def __init__(self, running: Running, name: str) -> None:
        self.running = running
        self.world = running.world
        self.name = name
        self.project_no = running.world.scope.project_no
        self._events = 0

    async def until(self, condition: str, *args: object) -> None:
        """Wait until this holds; `e` is this life's execution."""

        async def holds() -> bool:
            async with self.world.transactions.read(self.project_no) as conn:
                found = await conn.fetchval(
                    f"SELECT EXISTS (SELECT FROM executions AS e WHERE e.journey_id = $1 AND ({condition}))",
                    self.name,
                    *args,
                )
            await asyncio.sleep(0.1)
            return bool(found)

        await eventually(holds, within=PATIENCE)

    async def stands(self, step_id: str) -> None:
        await self.until("e.step_id = $2", step_id)

    async def parks(self) -> None:
        await self.until("e.parked IS NOT NULL")

    async def has_tried(self) -> None:
        """A send or call was tried and is to be tried again."""
        await self.until(
            "EXISTS (SELECT FROM sends AS s WHERE s.execution_id = e.execution_id AND s.attempt > 0)"
            " OR EXISTS (SELECT FROM webhook_calls AS c WHERE c.execution_id = e.execution_id AND c.attempt > 0)"
        )

    async def is_in_back_off(self) -> None:
        """A send or call certainly was not taken, and is to be tried again later, or was."""
        await self.until(
            "e.outcome IS NOT NULL"
            " OR EXISTS (SELECT FROM sends AS s WHERE s.execution_id = e.execution_id AND NOT s.in_doubt)"
            " OR EXISTS (SELECT FROM webhook_calls AS c WHERE c.execution_id = e.execution_id AND NOT c.in_doubt)"
        )

    async def is_canceled_in_a_hurry(self) -> None:
        """By a poke it is made to wait for its try, and while it does so somebody cancels it in Temporal."""
        handle = await self.handle()

        async def has(*kinds: str) -> bool:
            """Whether all of this has happened to it, in this order."""
            history = await handle.fetch_history()
            events = iter([EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events])
            return all(kind in events for kind in kinds)

        await self.has_tried()
        await self.poke()
        await eventually(lambda: has("ACTIVITY_TASK_CANCEL_REQUESTED"), within=PATIENCE)
        await handle.cancel()
        await eventually(lambda: has("WORKFLOW_EXECUTION_CANCEL_REQUESTED", "WORKFLOW_TASK_COMPLETED"), within=PATIENCE)

    def let_go(self) -> None:
        """The provider answers from now on."""
        assert isinstance(self.running.channel, Cast)
        self.running.channel.held[self.name].set()

    async def has_slept(self) -> None:
        handle = await self.handle()

        async def slept() -> bool:
            history = await handle.fetch_history()
            return any(event.HasField("timer_started_event_attributes") for event in history.events)

        await eventually(slept, within=PATIENCE)

    async def execution(self) -> tuple[UUID, str]:
        """Its id, and that of its workflow, once there is one."""
        await self.until("true")
        async with self.world.transactions.read(self.project_no) as conn:
            row = await conn.fetchrow(
                "SELECT execution_id, workflow_id FROM executions WHERE journey_id = $1", self.name
            )
        assert row is not None
        return row["execution_id"], row["workflow_id"]

    async def handle(self) -> WorkflowHandle[Any, Any]:
        _, workflow_id = await self.execution()
        return self.running.client.get_workflow_handle(workflow_id)

    async def poke(self) -> None:
        """On a busy machine it may have ended meanwhile."""
        handle = await self.handle()
        try:
            await handle.signal("poke")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def happen(self, event_name: str, subject_id: str | None = None, **properties: Any) -> None:
        self._events += 1
        event = Event(
            event_id=f"{self.name}-{self._events}",
            name=event_name,
            subject_id=subject_id or self.name,
            occurred_at=None,
            properties=json.dumps(properties).encode(),
        )
        await Ingest(self.world.transactions).take(self.project_no, [event], backfill=False)
        await self._ring()

    async def know(self, *, time_zone: str | None = None, **attributes: Any) -> None:
        async with self.world.transactions.write(self.project_no) as conn:
            patch = SubjectPatch(subject_id=self.name, attributes=attributes, time_zone=time_zone)
            await subjects.upsert(conn, self.project_no, [patch])
        await self._ring()

    async def opt_out(self, category: str = "marketing") -> None:
        async with self.world.transactions.write(self.project_no) as conn:
            change = PreferenceChange(channel="log", category=category, opted_out=True)
            await preferences.update(conn, self.project_no, self.name, [change])
        await self._ring()

    async def cancel(self) -> None:
        execution_id, _ = await self.execution()
        canceled = await self.world.do(canceling.cancel, str(execution_id), "wrong-price")
        executions = Executions(self.running.client, eager=False, searchable=False)
        await Relay(self.running.transactions, executions).tell(canceled.told)

    async def live(self, life: Life) -> list[WorkflowHistory]:
        """From the journey to the histories of its execution's runs, the first of them first."""
        steps = list(life.steps)
        async with receiving(one_after_the_other(*life.received) if life.received else None) as receiver:
            address = f"http://127.0.0.1:{receiver.port}/"
            steps = json.loads(json.dumps(steps).replace(RECEIVER, address))
            if life.segment:
                await make_segment(self)
            await self.running.publish(*steps, journey_id=self.name, goal=life.goal, **life.definition)
            if life.before is not None:
                await life.before(self)
            if life.enters is not None:
                await life.enters(self)
            else:
                await self.running.enroll(self.name, journey_id=self.name)
            if life.during is not None:
                await life.during(self)
            handle = await self.handle()
            if life.ends:
                with pytest.raises(WorkflowFailureError) if life.canceled else nullcontext():
                    async with asyncio.timeout(PATIENCE):
                        await handle.result()
            else:
                await self.has_slept()
        return await runs_of(handle)

    async def _ring(self) -> None:
        async with self.world.transactions.read(self.project_no) as conn:
            await inbox_entries.ring(conn)


Happening = Callable[[Scene], Awaitable[None]]


async def runs_of(handle: WorkflowHandle[Any, Any]) -> list[WorkflowHistory]:
    """The histories of a workflow's runs, the first of them first."""
    found = [await handle.fetch_history()]
    while run_id := found[0].events[0].workflow_execution_started_event_attributes.continued_execution_run_id:
        before = handle._client.get_workflow_handle(handle.id, run_id=run_id)
        found.insert(0, await before.fetch_history())
    return found


async def lived(running: Running, lives: Mapping[str, Life]) -> dict[str, WorkflowHistory]:
    """Live all of these lives beside each other. A run that goes on in another one is a history of its own,
    `name.1`, `name.2`, …
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def live(name: str, life: Life) -> list[WorkflowHistory]:
        async with turn:
            try:
                return await Scene(running, name).live(life)
            except BaseException as error:
                error.add_note(f"the life {name!r}")
                raise

    told = await asyncio.gather(*(live(name, life) for name, life in lives.items()), return_exceptions=True)
    failed = [one for one in told if isinstance(one, BaseException)]
    if failed:
        raise BaseExceptionGroup(f"{len(failed)} of {len(lives)} lives went wrong", failed)
    lived_through = {name: one for name, one in zip(lives, told, strict=True) if not isinstance(one, BaseException)}
    return {
        name if len(runs) == 1 else f"{name}.{number}": history
        for name, runs in lived_through.items()
        for number, history in enumerate(runs, start=1)
    }


@asynccontextmanager
async def set_stage(
    world: World, client: Client, dsn: str, pool: Pool[Record], lives: Mapping[str, Life]
) -> AsyncIterator[Running]:
    """The world is furnished. What is about time is so that whoever lives in UTC meets none of it."""
    channels = [
        Cast(lives, name="log", key_life=timedelta(days=1)),
        Cast(lives, name=KEYLESS, key_life=None),
    ]
    now = datetime.now(UTC)
    there = now + timedelta(hours=12)
    night = Hours(start=_clock(there - timedelta(hours=2)), end=_clock(there + timedelta(hours=2)))
    settings = {
        "frequency_caps": (FrequencyCap(channel="log", category="marketing", limit=3, window=timedelta(days=1)),),
        "quiet_hours": QuietHours(hours=night, channels=frozenset({"log"})),
        "channel_rates": (ChannelRate(channel=KEYLESS, per_second=1, burst=1),),
    }
    await world.do(projects.update, world.scope.project_id, settings, ANY_STATE)
    await world.add_communication("keyless", "marketing", channel=KEYLESS, settings={"url": "https://example.com/"})
    await world.add_communication("broken", "marketing", body="{{ 1 | divided_by: subject.attributes.none }}")
    # What lives do themselves takes no connections of the worker's.
    own = await open_pool(dsn, role=WORKER_ROLE, size=AT_ONCE, application_name="test-lives")
    try:
        async with worker(client, dsn, pool, *channels, searchable=True):
            yield Running(world, client, own, channels[0], searchable=True)
    finally:
        await own.close()


def _clock(at: datetime) -> Any:
    return at.time().replace(second=0, microsecond=0)


async def make_segment(scene: Scene) -> None:
    """A list of this life's name, empty."""
    empty = Segment(kind=STATIC, name=scene.name, description="", predicate=None)
    await scene.world.do(segments.create, scene.name, empty)
