"""Transactions as use cases have them: once for each request, and to the end once the commit has begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from orchestrator.application.transactions import Transactions
from orchestrator.domain.refusals import InvalidArgument, Unavailable
from orchestrator.domain.scope import Scope
from orchestrator.storage import pool as pools
from orchestrator.storage.outages import is_outage
from orchestrator.storage.pool import API_ROLE, connection, open_pool
from tests.eventually import eventually
from tests.integration.projects import make_project

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

INSERT = "INSERT INTO event_names (project_no, name) VALUES ($1, $2)"

# Makes every commit that added an event name take its time.
SLOW_COMMIT = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON event_names DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


@pytest.fixture
async def scope(api_pool: Pool[Record]) -> Scope:
    return await make_project(api_pool)


@pytest.fixture
async def transactions(api_pool: Pool[Record]) -> Transactions:
    return Transactions(api_pool)


@pytest.fixture
async def other_process(database: str) -> AsyncIterator[Transactions]:
    """Knows of the first one's requests by the database alone."""
    pool = await open_pool(database, role=API_ROLE, size=8, application_name="other")
    yield Transactions(pool)
    await pool.close()


async def names(owner: Connection[Record]) -> list[str]:
    return [row[0] for row in await owner.fetch("SELECT name FROM event_names ORDER BY name")]


async def test_a_write_that_raises_has_written_nothing(
    transactions: Transactions, scope: Scope, owner: Connection[Record]
) -> None:
    async def write() -> None:
        async with transactions.write(scope.project_no) as conn:
            await conn.execute(INSERT, scope.project_no, "bought")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write()
    assert await names(owner) == []


async def test_a_commit_that_has_begun_is_seen_through_by_a_canceled_caller(
    transactions: Transactions, scope: Scope, owner: Connection[Record], api_pool: Pool[Record]
) -> None:
    await owner.execute(SLOW_COMMIT)
    committed: list[bool] = []

    async def write() -> None:
        async with transactions.write(scope.project_no, committed=lambda: committed.append(True)) as conn:
            await conn.execute(INSERT, scope.project_no, "bought")

    writer = asyncio.create_task(write())
    await eventually(lambda: _is_committing(owner))
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer

    assert await names(owner) == ["bought"]
    assert committed == [True]
    assert api_pool.get_idle_size() == api_pool.get_size()
    async with transactions.read(scope.project_no) as conn:
        assert await conn.fetchval("SELECT count(*) FROM event_names") == 1


async def test_a_deadline_during_the_commit_does_not_undo_it(
    transactions: Transactions, scope: Scope, owner: Connection[Record]
) -> None:
    await owner.execute(SLOW_COMMIT)

    async def write() -> None:
        async with asyncio.timeout(0.2), transactions.write(scope.project_no) as conn:
            await conn.execute(INSERT, scope.project_no, "bought")

    with pytest.raises(TimeoutError):
        await write()
    assert await names(owner) == ["bought"]


async def test_a_failed_commit_is_told_and_calls_nobody_back(
    transactions: Transactions, scope: Scope, owner: Connection[Record]
) -> None:
    await owner.execute(SLOW_COMMIT.replace("PERFORM pg_sleep(0.4)", "RAISE EXCEPTION 'no'"))
    committed: list[bool] = []

    with pytest.raises(asyncpg.RaiseError):
        async with transactions.write(scope.project_no, committed=lambda: committed.append(True)) as conn:
            await conn.execute(INSERT, scope.project_no, "bought")

    assert (await names(owner), committed) == ([], [])


async def test_a_lost_connection_does_not_hide_what_went_wrong(
    transactions: Transactions, scope: Scope, owner: Connection[Record]
) -> None:
    async def write() -> None:
        async with transactions.write(scope.project_no) as conn:
            await owner.execute("SELECT pg_terminate_backend($1, 5000)", conn.get_server_pid())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write()
    async with transactions.read(scope.project_no) as conn:
        assert await conn.fetchval("SELECT 1") == 1


async def test_savepoints_work_inside_a_write(
    transactions: Transactions, scope: Scope, owner: Connection[Record]
) -> None:
    async with transactions.write(scope.project_no) as conn:
        await conn.execute(INSERT, scope.project_no, "kept")
        savepoint = conn.transaction()
        await savepoint.start()
        await conn.execute(INSERT, scope.project_no, "undone")
        await savepoint.rollback()

    assert await names(owner) == ["kept"]


async def test_a_rehearsal_answers_and_writes_nothing(
    transactions: Transactions, scope: Scope, owner: Connection[Record]
) -> None:
    async def work(conn: Connection[Record]) -> bytes:
        await conn.execute(INSERT, scope.project_no, "bought")
        return b"answer"

    assert await transactions.rehearse(scope.project_no, work) == b"answer"
    assert await names(owner) == []


async def test_a_request_is_done_once_by_all_processes_together(
    transactions: Transactions, other_process: Transactions, scope: Scope, owner: Connection[Record]
) -> None:
    done: list[str] = []

    def request(key: str) -> list[asyncio.Task[bytes]]:
        async def work(conn: Connection[Record]) -> bytes:
            done.append(key)
            await conn.execute(INSERT, scope.project_no, f"{key} {len(done)}")
            return f"{key} {len(done)}".encode()

        both = [transactions, other_process] * 32
        return [asyncio.create_task(one.once(scope, "Method", key, b"same", work)) for one in both]

    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(_all_of(request(f"r{number}"))) for number in range(20)]

    assert all(len(set(answer.result())) == 1 for answer in answers)
    assert len(await names(owner)) == 20


async def _all_of(tasks: list[asyncio.Task[bytes]]) -> list[bytes]:
    return await asyncio.gather(*tasks)


async def test_a_refused_request_is_free_for_those_who_wait_for_it(transactions: Transactions, scope: Scope) -> None:
    tries = 0

    async def work(conn: Connection[Record]) -> bytes:
        nonlocal tries
        tries += 1
        await conn.execute("SELECT pg_sleep(0.05)")
        if tries < 3:
            raise InvalidArgument.of("name", "REQUIRED", "must be given")
        return b"third time"

    answers = await asyncio.gather(
        *(transactions.once(scope, "Method", "r", b"same", work) for _ in range(8)), return_exceptions=True
    )

    assert tries == 3
    assert sum(isinstance(answer, InvalidArgument) for answer in answers) == 2
    assert answers.count(b"third time") == 6


async def test_a_canceled_request_is_taken_over_by_the_next_in_line(transactions: Transactions, scope: Scope) -> None:
    going = asyncio.Event()

    async def work(conn: Connection[Record]) -> bytes:
        if not going.is_set():
            going.set()
            await asyncio.Event().wait()
        return b"done"

    first = asyncio.create_task(transactions.once(scope, "Method", "r", b"same", work))
    await going.wait()
    second = asyncio.create_task(transactions.once(scope, "Method", "r", b"same", work))
    first.cancel()

    assert await second == b"done"
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize("same_time", [True, False])
async def test_one_id_stands_for_one_request(
    transactions: Transactions, other_process: Transactions, scope: Scope, same_time: bool
) -> None:
    async def work(conn: Connection[Record]) -> bytes:
        await conn.execute("SELECT pg_sleep(0.1)")
        return b"done"

    first = asyncio.create_task(transactions.once(scope, "Method", "r", b"one", work))
    if not same_time:
        await first
    others = await asyncio.gather(
        transactions.once(scope, "Method", "r", b"two", work),
        other_process.once(scope, "Method", "r", b"two", work),
        return_exceptions=True,
    )

    [outcome] = await asyncio.gather(first, return_exceptions=True)
    # Whichever came first stands, and all of the other kind are refused.
    first_stands = outcome == b"done"
    assert first_stands or same_time
    assert [isinstance(other, InvalidArgument) for other in others] == [first_stands] * 2
    for refusal in (outcome, *others):
        assert refusal == b"done" or getattr(refusal, "reason", None) == "REQUEST_ID_REUSED"


async def test_an_id_counts_within_principal_method_and_project(
    transactions: Transactions, scope: Scope, api_pool: Pool[Record]
) -> None:
    elsewhere = await make_project(api_pool, "elsewhere")
    done: list[bytes] = []

    async def work(conn: Connection[Record]) -> bytes:
        done.append(b"x")
        return str(len(done)).encode()

    answers = [
        await transactions.once(scope, "Method", "r", b"same", work),
        await transactions.once(replace(scope, actor="key:other"), "Method", "r", b"same", work),
        await transactions.once(scope, "OtherMethod", "r", b"same", work),
        await transactions.once(elsewhere, "Method", "r", b"same", work),
        await transactions.once(scope, "Method", "r", b"same", work),
    ]

    assert answers == [b"1", b"2", b"3", b"4", b"1"]


async def test_without_an_id_every_call_is_a_new_one(transactions: Transactions, scope: Scope) -> None:
    done: list[bytes] = []

    async def work(conn: Connection[Record]) -> bytes:
        done.append(b"x")
        return b""

    for _ in range(3):
        await transactions.once(scope, "Method", "", b"", work)

    assert len(done) == 3


async def test_who_waits_too_long_for_a_connection_is_told_to_come_back(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "PATIENCE", pools.PATIENCE / 50)
    pool = await open_pool(database, role=API_ROLE, size=1, application_name="test")
    try:
        async with connection(pool, 1):
            with pytest.raises(Unavailable):
                async with connection(pool, 1):
                    pytest.fail("there was one")
        async with connection(pool, 1) as conn:
            assert await conn.fetchval("SELECT 1") == 1
    finally:
        await pool.close()


async def test_json_comes_and_goes_as_python_values(transactions: Transactions, scope: Scope) -> None:
    value = {"text": "ü\n", "number": 1.5, "whole": 2**53, "list": [None, True, {}], "": {}}

    async with transactions.read(scope.project_no) as conn:
        assert await conn.fetchval("SELECT $1::jsonb", value) == value


async def _is_committing(owner: Connection[Record]) -> bool:
    return bool(await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))


async def test_a_transaction_that_stands_still_gives_back_what_it_holds(
    database: str, owner: Connection[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process goes on living, and so does its connection's socket."""
    monkeypatch.setattr(pools, "STANDSTILL", timedelta(seconds=0.3))
    pool = await open_pool(database, role=API_ROLE, size=2, application_name="frozen")

    with pytest.raises(Exception) as raised:  # noqa: PT011  # whether the connection knows already is a matter of luck
        async with Transactions(pool).write(None) as conn:
            await conn.execute("SELECT pg_advisory_xact_lock(7)")
            assert not await owner.fetchval("SELECT pg_try_advisory_lock(7)")
            # Answered when Postgres has ended the other one.
            await asyncio.wait_for(owner.execute("SELECT pg_advisory_lock(7)"), 10)
            await conn.execute("SELECT 1")

    assert is_outage(raised.value)
    await pool.close()
