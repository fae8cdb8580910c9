"""The consumer of the inbox beside a database that fails it: it goes on, and what is sound is not set aside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest
from temporalio.runtime import Runtime

from orchestrator.application.delivery import Delivery
from orchestrator.application.inbox import SUBJECTS, Inbox
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import bucket_of
from orchestrator.storage import inbox_entries
from orchestrator.storage.inbox import MAX_ATTEMPTS
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.executions import Executions
from tests.eventually import eventually
from tests.integration.journey_world import World
from workers.inbox import InboxConsumer
from workers.metrics import Metrics

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

#: What a server says when it is full, shutting down, or in each other's way.
OUTAGES = ["53100", "53200", "53300", "08006", "57P01", "40P01", "55P03"]


class Counter:
    """An inbox that is being consumed, with a switch that makes every look at an entry fail."""

    def __init__(self, world: World, consumer: InboxConsumer) -> None:
        self.owner = world.owner
        self.world = world
        self.task = asyncio.create_task(consumer.run())

    async def put(self, subject_id: str) -> None:
        key = await self.world.subject(subject_id)
        async with self.world.transactions.write(self.world.scope.project_no) as conn:
            await inbox_entries.add(conn, [key], "attributes", await conn.fetchval("SELECT now()"))
            await inbox_entries.ring(conn)

    async def fail_with(self, sqlstate: str) -> None:
        """From now on taking entries fails so. A sequence counts, since nothing else outlives the rollback."""
        await self.owner.execute(
            f"""
            CREATE SEQUENCE failures;
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                PERFORM nextval('failures');
                RAISE EXCEPTION 'on purpose' USING ERRCODE = '{sqlstate}';
            END $$;
            CREATE TRIGGER fail BEFORE DELETE ON inbox FOR EACH ROW EXECUTE FUNCTION fail();
            """
        )

    async def failures(self) -> int:
        count: int = await self.owner.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM failures")
        return count

    async def recover(self) -> None:
        await self.owner.execute("DROP TRIGGER fail ON inbox")

    async def is_empty(self) -> bool:
        return not await self.owner.fetchval("SELECT EXISTS (SELECT FROM inbox)")


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    return await World.make(owner, api_pool)


@asynccontextmanager
async def consuming(world: World, dsn: str, pool: Pool[Record]) -> AsyncIterator[Counter]:
    transactions = Transactions(pool)
    # Nobody enters a journey here, so Temporal is never asked.
    temporal = Executions(await connect(Target(address="127.0.0.1:1"), lazy=True), eager=False, searchable=False)
    metrics = Metrics(Runtime.default().metric_meter)
    consumer = InboxConsumer(dsn, Inbox(transactions, Versions()), Delivery(transactions, temporal), metrics)
    counter = Counter(world, consumer)
    try:
        yield counter
    finally:
        consumer.stop()
        await counter.task


@pytest.mark.parametrize("sqlstate", OUTAGES)
async def test_an_outage_is_not_the_entries_fault(
    world: World, database: str, worker_pool: Pool[Record], sqlstate: str
) -> None:
    async with consuming(world, database, worker_pool) as counter:
        await counter.fail_with(sqlstate)
        await counter.put("ann")
        await counter.put("bob")

        async def has_failed_twice() -> bool:
            return await counter.failures() >= 2

        await eventually(has_failed_twice)
        attempts = await world.owner.fetchval("SELECT max(attempts) FROM inbox")
        await counter.recover()
        await eventually(counter.is_empty)

    assert attempts == 0
    assert await world.owner.fetchval("SELECT count(*) FROM inbox_dead") == 0


async def test_a_fault_of_the_entries_is_counted_and_they_are_tried_again(
    world: World, database: str, worker_pool: Pool[Record]
) -> None:
    async with consuming(world, database, worker_pool) as counter:
        await counter.fail_with("22012")
        await counter.put("ann")

        async def is_counted() -> bool:
            return bool(await world.owner.fetchval("SELECT attempts BETWEEN 1 AND $1 FROM inbox", MAX_ATTEMPTS))

        await eventually(is_counted)
        await counter.recover()
        await eventually(counter.is_empty, within=15)

    assert await world.owner.fetchval("SELECT count(*) FROM inbox_dead") == 0


async def test_a_server_that_takes_no_more_connections_stops_the_consumer_for_as_long_as_that_lasts(
    world: World, database: str, worker_pool: Pool[Record], caplog: pytest.LogCaptureFixture
) -> None:
    def was_refused() -> bool:
        return any(vars(record).get("error") == "TooManyConnectionsError" for record in caplog.records)

    name = await world.owner.fetchval("SELECT current_database()")
    async with consuming(world, database, worker_pool) as counter:
        # Nothing is left in the pool, so that every look needs a new connection.
        idle = [await worker_pool.acquire() for _ in range(worker_pool.get_idle_size())]
        await world.owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
        try:
            await counter.put("ann")
            await eventually(was_refused)
            waits = not await counter.is_empty()
        finally:
            await world.owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
            for conn in idle:
                await worker_pool.release(conn)
        await eventually(counter.is_empty)

    assert waits


class Desk:
    """The inbox of a process, with entries laid into it."""

    def __init__(self, world: World, pool: Pool[Record]) -> None:
        self.world = world
        self.inbox = Inbox(Transactions(pool), Versions())

    async def put(self, *subject_ids: str) -> list[SubjectKey]:
        keys = [await self.world.subject(subject_id) for subject_id in subject_ids]
        async with self.world.transactions.write(self.world.scope.project_no) as conn:
            for key in keys:
                await inbox_entries.add(conn, [key], "attributes", await conn.fetchval("SELECT now()"))
        return keys


async def test_who_has_waited_longest_is_worked_on_first(world: World, worker_pool: Pool[Record]) -> None:
    desk = Desk(world, worker_pool)
    by_bucket = sorted((f"s{n}" for n in range(SUBJECTS + 1)), key=bucket_of)
    keys = await desk.put(*reversed(by_bucket))

    waiting = await desk.inbox.waiting()
    await desk.inbox.work(waiting[:SUBJECTS])

    assert waiting == keys
    assert await desk.inbox.waiting() == [keys[-1]]


async def test_what_was_worked_on_is_counted_not_what_was_looked_at(
    world: World, worker_pool: Pool[Record], database: str
) -> None:
    desk = Desk(world, worker_pool)
    keys = await desk.put("ann", "bob", "cleo")
    other = await asyncpg.connect(database)
    try:
        await other.execute("BEGIN")
        await other.execute("SELECT FROM subjects WHERE subject_id = 'cleo' FOR NO KEY UPDATE")
        worked = await desk.inbox.work(keys)
    finally:
        await other.close()

    assert worked.subjects == 2


async def test_failed_entries_are_tried_again_by_one_process_at_a_time(world: World, worker_pool: Pool[Record]) -> None:
    one, other = Desk(world, worker_pool).inbox, Desk(world, worker_pool).inbox

    async with one.turn() as ours, other.turn() as theirs:
        together = ours, theirs
    async with other.turn() as later:
        pass

    assert (together, later) == ((True, False), True)
