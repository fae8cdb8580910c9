"""Executions whose histories are encrypted, wholly or from some point on: keys come, change, and go missing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError

from orchestrator.application.doctor import KEY_MISSING, NO_EXECUTION, Doctor
from orchestrator.application.ingest import Ingest
from orchestrator.application.reconciliation import Reconciliation
from orchestrator.application.transactions import Transactions
from orchestrator.domain.event import Event
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.codec import kid_of
from orchestrator.temporal.executions import Executions
from orchestrator.temporal.keyring import Keyring
from orchestrator.temporal.policies import SCHEDULE_ID, PolicyWorkflows
from orchestrator.temporal.schedules import JourneySchedules, schedule_id
from tests.eventually import eventually
from tests.integration.journey_world import World
from tests.workflows.payloads import payloads_in
from tests.workflows.world import Running, Switchboard, worker
from workers.process import Limits

if TYPE_CHECKING:
    from asyncpg import Pool, Record

ONE, TWO = (f"{kid}:{base64.b64encode(bytes([number]) * 32).decode()}" for number, kid in enumerate(("k1", "k2")))

SEND = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "await"}
AWAIT = {"id": "await", "waitFor": {"event": {"eventName": "paid"}}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}

#: Who connects with these keys, to the namespace of the test.
Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
def connected(temporal_address: str, temporal_namespace: str) -> Connect:
    async def connected(*keys: str) -> Client:
        target = Target(address=temporal_address, namespace=temporal_namespace)
        return await connect(target, keyring=Keyring.of(keys))

    return connected


@pytest.fixture
def waiting(furnished: World, database: str, worker_pool: Pool[Record], connected: Connect) -> Waiting:
    return Waiting(furnished, database, worker_pool, connected)


class Waiting:
    """Executions that send, then wait to be told, and end; workers come and go with other keys."""

    def __init__(self, world: World, dsn: str, pool: Pool[Record], connected: Connect) -> None:
        self._world, self._dsn, self._pool, self._connected = world, dsn, pool, connected
        self.channel = Switchboard()

    async def begin(self, *keys: str, count: int = 1) -> Sequence[Notice]:
        """So many come as far as the wait, with these keys."""
        client = await self._connected(*keys)
        run = Running(self._world, client, self._pool, self.channel)
        # Nothing is kept in memory: Temporal would wait for this worker for some seconds, when it has gone.
        uncached = Limits(cached=0, cached_behind=0)
        async with worker(client, self._dsn, self._pool, self.channel, limits=uncached):
            await run.publish(SEND, AWAIT, BYE)
            entries = await run.enroll(*(f"subject-{number}" for number in range(count)))
            await run.until("count(*) = $1 FROM executions WHERE step_id = 'await'", count, within=60)
        return entries

    async def end(self, *keys: str) -> None:
        """All that wait are told, and come to their end, with these keys."""
        client = await self._connected(*keys)
        run = Running(self._world, client, self._pool, self.channel)
        async with worker(client, self._dsn, self._pool, self.channel):
            await self.tell()
            await run.until("NOT EXISTS (SELECT FROM executions WHERE outcome IS NULL)", within=90)

    async def tell(self) -> None:
        """What all wait for happens."""
        subject_ids = await self._world.owner.fetch(
            "SELECT subject_id FROM executions JOIN subjects USING (project_no, bucket, subject_no)"
        )
        paid = [
            Event(event_id=f"e-{subject_id}", name="paid", subject_id=subject_id, occurred_at=None, properties=b"{}")
            for (subject_id,) in subject_ids
        ]
        await Ingest(self._world.transactions).take(self._world.scope.project_no, paid, backfill=False)

    async def history(self, entry: Notice) -> list[Any]:
        handle: WorkflowHandle[Any, Any] = (await self._connected()).get_workflow_handle(entry.workflow_id)
        return list((await handle.fetch_history()).events)

    async def failures(self, entries: Sequence[Notice]) -> int:
        """Tasks of workflows that have failed."""
        histories = await asyncio.gather(*map(self.history, entries))
        return sum(
            event.HasField("workflow_task_failed_event_attributes") for history in histories for event in history
        )


async def test_what_began_in_the_clear_goes_on_encrypted(waiting: Waiting) -> None:
    (entry,) = await waiting.begin()
    before = len(await waiting.history(entry))

    await waiting.end(ONE)

    history = await waiting.history(entry)
    assert _kids(history[:before]) == {None}
    assert _kids(history[before:]) == {"k1"}
    assert await waiting.failures([entry]) == 0


async def test_what_began_encrypted_goes_on_in_the_clear(waiting: Waiting) -> None:
    (entry,) = await waiting.begin(ONE)
    before = len(await waiting.history(entry))

    await waiting.end("plain", ONE)

    history = await waiting.history(entry)
    assert _kids(history[:before]) == {"k1"}
    assert _kids(history[before:]) == {None}
    assert await waiting.failures([entry]) == 0


@pytest.mark.faults
async def test_keys_are_changed_with_fifty_executions_under_way(waiting: Waiting) -> None:
    entries = await waiting.begin(ONE, count=50)

    await waiting.end(TWO, ONE)

    assert await waiting.failures(entries) == 0
    histories = await asyncio.gather(*map(waiting.history, entries))
    assert all(_kids(history) == {"k1", "k2"} for history in histories)
    assert all(count == 1 for count in waiting.channel.asked.values())
    assert len(waiting.channel.asked) == 50


@pytest.mark.faults
async def test_a_worker_without_the_key_does_nothing_until_it_is_back(
    waiting: Waiting, connected: Connect, database: str, worker_pool: Pool[Record]
) -> None:
    (entry,) = await waiting.begin(ONE)
    client = await connected(TWO)
    uncached = Limits(cached=0, cached_behind=0)
    async with worker(client, database, worker_pool, waiting.channel, limits=uncached):
        await waiting.tell()

        async def has_failed() -> bool:
            return await waiting.failures([entry]) > 0

        await eventually(has_failed, within=30)
    (failed, *_) = [
        event.workflow_task_failed_event_attributes.failure
        for event in await waiting.history(entry)
        if event.HasField("workflow_task_failed_event_attributes")
    ]
    handle = client.get_workflow_handle(entry.workflow_id)
    assert (await handle.describe()).close_time is None

    await waiting.end(TWO, ONE)

    context = WorkflowSerializationContext(client.namespace, entry.workflow_id)
    opened = await client.data_converter.with_context(context).decode_failure(failed)
    assert "the key 'k1' is not among ORCHESTRATOR_PAYLOAD_KEYS" in str(opened)
    assert waiting.channel.asked.total() == 1


async def test_the_doctor_names_an_execution_whose_key_is_missing(
    waiting: Waiting, connected: Connect, worker_pool: Pool[Record]
) -> None:
    (entry,) = await waiting.begin(ONE)
    transactions = Transactions(worker_pool)

    async def found(*keys: str) -> dict[str, tuple[str, ...]]:
        doctor = Doctor(transactions, await connected(*keys), on_its_way=timedelta(0))
        return {finding.name: finding.count.examples async for finding in doctor.examine() if finding.count.total}

    async def is_named() -> bool:
        return (await found(TWO)).get(KEY_MISSING) == (f"execution {entry.execution_id}, key k1",)

    await eventually(is_named)
    assert NO_EXECUTION not in await found(TWO), "whose it is cannot be read; that is not to say that it is nobody's"
    assert KEY_MISSING in await found()
    assert not (await found(TWO, ONE)).keys() & {KEY_MISSING, NO_EXECUTION}


async def test_the_doctor_names_an_execution_that_needs_a_missing_key_since_it_began(
    waiting: Waiting, connected: Connect, furnished: World, database: str, worker_pool: Pool[Record]
) -> None:
    (entry,) = await waiting.begin()
    client = await connected(ONE)
    before = len(await waiting.history(entry))
    async with worker(client, database, worker_pool, waiting.channel):
        await client.get_workflow_handle(entry.workflow_id).signal("poke")

        async def goes_on_encrypted() -> bool:
            return "k1" in _kids((await waiting.history(entry))[before:])

        await eventually(goes_on_encrypted)
    await furnished.owner.execute("UPDATE executions SET wakes_at = now() - interval '5 minutes'")

    async def named(*keys: str) -> tuple[str, ...]:
        doctor = Doctor(Transactions(worker_pool), await connected(*keys), on_its_way=timedelta(0))
        return {finding.name: finding.count.examples async for finding in doctor.examine()}[KEY_MISSING]

    async def is_named() -> bool:
        return await named(TWO) == (f"execution {entry.execution_id}, key k1",)

    await eventually(is_named)
    assert await named(TWO, ONE) == ()


async def test_others_that_were_ended_are_closed_beside_one_that_cannot_be_read(
    waiting: Waiting, connected: Connect, furnished: World, worker_pool: Pool[Record]
) -> None:
    (locked,) = await waiting.begin(ONE)
    client = await connected(TWO)
    run = Running(furnished, client, worker_pool, waiting.channel)
    (readable,) = await run.enroll("bob")
    for entry in (locked, readable):
        await client.get_workflow_handle(entry.workflow_id).terminate()

    async def closed(*keys: str) -> int:
        executions = Executions(await connected(*keys), eager=False, searchable=False)
        return await Reconciliation(Transactions(worker_pool), executions).run()

    async def one_is_closed() -> bool:
        return await closed(TWO) == 1

    await eventually(one_is_closed)
    assert await furnished.owner.fetchval("SELECT execution_id FROM executions WHERE outcome IS NULL") == (
        locked.execution_id
    )
    assert await closed(TWO, ONE) == 1


async def test_a_schedule_is_written_anew_with_the_new_key(connected: Connect) -> None:
    old, new = await connected(ONE), await connected(TWO, ONE)
    await PolicyWorkflows(old).ensure_schedule()
    first = await _handed_over(old, SCHEDULE_ID)
    await PolicyWorkflows(old).ensure_schedule()
    again = await _handed_over(old, SCHEDULE_ID)

    await PolicyWorkflows(new).ensure_schedule()

    assert again == first, "nothing has changed, so nothing is written"
    assert [kid_of(payload) for payload in first] == ["k1"]
    assert [kid_of(payload) for payload in await _handed_over(new, SCHEDULE_ID)] == ["k2"]
    await new.get_schedule_handle(SCHEDULE_ID).delete()


async def test_a_crowd_is_enrolled_on_an_encrypted_schedule(
    furnished: World, connected: Connect, database: str, worker_pool: Pool[Record]
) -> None:
    client = await connected(ONE)
    run = Running(furnished, client, worker_pool, Switchboard())
    await furnished.subject("ann")
    async with worker(client, database, worker_pool, run.channel):
        await run.publish(BYE, journey_id="due", schedule={"cron": "0 0 1 1 *", "timeZone": "UTC", "everyone": True})
        own = schedule_id(furnished.scope.project_no, "due")

        async def is_there() -> bool:
            with suppress(RPCError):
                return [kid_of(payload) for payload in await _handed_over(client, own)] == ["k1"]
            return False

        await eventually(is_there, within=30)

        await client.get_schedule_handle(own).trigger()

        await run.until("count(*) = 1 FROM executions WHERE outcome = 'completed'", within=40)
    await JourneySchedules(client).remove(furnished.scope.project_no, "due")


def _kids(history: Sequence[Any]) -> set[str | None]:
    return {kid_of(payload) for event in history for payload in payloads_in(event)}


async def _handed_over(client: Client, name: str) -> list[Payload]:
    described = await client.get_schedule_handle(name).describe()
    return list(described.raw_description.schedule.action.start_workflow.input.payloads)
