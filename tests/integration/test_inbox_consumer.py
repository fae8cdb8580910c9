"""The consumer of the inbox beside a database that fails it: it goes on, and what is sound is not set aside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from temporalio.runtime import Runtime

from orchestrator.application.inbox import SUBJECTS, Inbox
from orchestrator.application.relay import Relay
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import bucket_of
from orchestrator.storage import inbox, inbox_entries
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

    async def slow_down(self, subject_id: str) -> None:
        """From now on taking an entry of this subject takes longer than a statement may."""
        key = await self.world.subject(subject_id)
        await self.owner.execute(
            f"""
            CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_sleep(30);
                RETURN OLD;
            END $$;
            CREATE TRIGGER slow_down BEFORE DELETE ON inbox FOR EACH ROW
              WHEN (OLD.subject_no = {key.subject_no} AND OLD.attempts <= {MAX_ATTEMPTS})
              EXECUTE FUNCTION slow_down();
            """
        )

    async def left(self) -> dict[str, set[int]]:
        """How often entries that are left have failed, by subject."""
        rows = await self.owner.fetch(
            "SELECT subject_id, array_agg(DISTINCT attempts) FROM inbox"
            "  JOIN subjects USING (project_no, bucket, subject_no) GROUP BY 1"
        )
        return {subject_id: set(attempts) for subject_id, attempts in rows}

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
    consumer = InboxConsumer(dsn, Inbox(transactions, Versions()), Relay(transactions, temporal), metrics)
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


async def test_a_subject_whose_entries_take_too_long_holds_up_no_others(
    world: World, database: str, hurried_pool: Pool[Record]
) -> None:
    async with consuming(world, database, hurried_pool) as counter:
        await counter.slow_down("heavy")
        for subject_id in ("ann", "heavy", "bob"):
            await counter.put(subject_id)

        async def only_heavy_is_left() -> bool:
            left = await counter.left()
            return left.keys() == {"heavy"} and min(left["heavy"]) > 0

        await eventually(only_heavy_is_left, within=30)
        # What comes later goes to what failed, and makes nobody wait.
        await counter.put("heavy")
        await counter.put("cleo")
        await eventually(only_heavy_is_left, within=30)
        await world.owner.execute("UPDATE inbox SET attempts = $1", MAX_ATTEMPTS)
        await eventually(counter.is_empty, within=60)

    dead = await world.owner.fetch("SELECT error FROM inbox_dead")
    assert [row["error"] for row in dead] == ["QueryCanceledError"] * 2


async def test_who_waits_for_somebody_elses_lock_has_not_failed(
    world: World, database: str, hurried_pool: Pool[Record], caplog: pytest.LogCaptureFixture
) -> None:
    def has_waited_twice() -> bool:
        return [vars(record).get("error") for record in caplog.records].count("LockNotAvailableError") >= 2

    holder = await asyncpg.connect(database)
    try:
        async with consuming(world, database, hurried_pool) as counter:
            async with holder.transaction():
                # Consumers may look at these, and hold none.
                await holder.execute("LOCK TABLE held_entries IN EXCLUSIVE MODE")
                await counter.put("ann")
                await eventually(has_waited_twice, within=30)
                attempts = await world.owner.fetchval("SELECT max(attempts) FROM inbox")
            await eventually(counter.is_empty)
    finally:
        await holder.close()

    assert attempts == 0


async def test_nothing_that_waits_is_read_to_find_that_nothing_has_failed(
    world: World, worker_pool: Pool[Record]
) -> None:
    await world.owner.execute(
        "INSERT INTO inbox (project_no, bucket, subject_no, kind, attempts, received_at)"
        " SELECT 1, n % 256, n, 'attributes', (n > 20000)::int, now() FROM generate_series(1, 20003) AS n"
    )

    # With statistics and without.
    for statement in ("SELECT 1", "ANALYZE inbox"):
        await world.owner.execute(statement)
        async with Transactions(worker_pool).write(None) as conn:
            found = await inbox.failing(conn, 8000)
            read = await conn.fetchval(
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'inbox'"
            )
        assert len(found) == 3
        assert read <= 6


async def test_a_server_that_takes_no_more_connections_stops_the_consumer_for_as_long_as_that_lasts(
    world: World, database: str, worker_pool: Pool[Record], caplog: pytest.LogCaptureFixture
) -> None:
    idle: list[Any] = []

    def refusals() -> int:
        return [vars(record).get("error") for record in caplog.records].count("TooManyConnectionsError")

    async def was_refused() -> bool:
        # Nothing is left in the pool, nor what a look was at: every look needs a new connection.
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while worker_pool.get_idle_size():
                idle.append(await worker_pool.acquire())
        return refusals() > 1

    name = await world.owner.fetchval("SELECT current_database()")
    async with consuming(world, database, worker_pool) as counter:
        await world.owner.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
        try:
            await eventually(was_refused)
            await counter.put("ann")
            before = refusals()
            await eventually(lambda: refusals() > before)
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
