"""The audit log: appended to with what is done, by callers and by the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import ENTRY_REFUSED_AUDIENCE_NOT_FOUND, JOURNEY_PAUSED
from orchestrator.storage import audit
from tests.integration.journey_world import START, World

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Connection, Pool, Record


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    return await World.make(owner, api_pool)


async def meet(transactions: Transactions, world: World, at: datetime, journey_id: str = "welcome") -> None:
    """What a consumer notes when an entry is refused because the audience is gone."""
    async with transactions.write(None) as conn:
        await audit.append_hourly(
            conn,
            project_no=world.scope.project_no,
            at=at,
            action=ENTRY_REFUSED_AUDIENCE_NOT_FOUND,
            resource_id=journey_id,
            metadata={"audienceId": "buyers", "version": 1},
        )


async def test_what_the_runtime_keeps_meeting_is_noted_once_in_an_hour(world: World, worker_pool: Pool[Record]) -> None:
    transactions = Transactions(worker_pool)

    for minutes in (0, 1, 59, 60, 61, 200):
        await meet(transactions, world, START + timedelta(minutes=minutes))
    await meet(transactions, world, START, journey_id="other")

    rows = await world.owner.fetch("SELECT at, actor FROM audit_log WHERE resource_id = 'welcome' ORDER BY audit_no")
    assert [row["at"] - START for row in rows] == [timedelta(0), timedelta(hours=1), timedelta(minutes=200)]
    assert {row["actor"] for row in rows} == {"runtime"}
    assert await world.actions("other") == ["entry_refused_audience_not_found"]


async def test_of_many_who_meet_it_at_once_one_notes_it(world: World, worker_pool: Pool[Record]) -> None:
    transactions = Transactions(worker_pool)

    await asyncio.gather(*(meet(transactions, world, START) for _ in range(40)))

    assert await world.actions() == ["entry_refused_audience_not_found"]


async def test_who_rolls_back_takes_the_line_along_and_the_next_one_notes_it(
    world: World, worker_pool: Pool[Record]
) -> None:
    transactions = Transactions(worker_pool)

    async def meet_in_vain(conn: Connection[Record]) -> bytes:
        await audit.append_hourly(
            conn,
            project_no=world.scope.project_no,
            at=START,
            action=ENTRY_REFUSED_AUDIENCE_NOT_FOUND,
            resource_id="welcome",
        )
        return b""

    await transactions.rehearse(world.scope.project_no, meet_in_vain)
    assert await world.actions() == []

    await meet(transactions, world, START)

    assert await world.actions() == ["entry_refused_audience_not_found"]


async def rows_read(conn: Connection[Record], work: Callable[[Connection[Record]], Awaitable[object]]) -> int:
    """How many rows of the audit log the work reads, by an index or without."""

    async def so_far() -> int:
        # Counters of a connection are seen by others, and by itself, once they are flushed.
        await conn.execute("SELECT pg_stat_force_next_flush()")
        count: int = await conn.fetchval(
            """
            SELECT t.seq_tup_read + sum(i.idx_tup_read)::bigint
              FROM pg_stat_all_tables AS t JOIN pg_stat_all_indexes AS i USING (relid)
             WHERE t.relname = 'audit_log'
             GROUP BY t.seq_tup_read
            """
        )
        return count

    before = await so_far()
    async with conn.transaction():
        await work(conn)
    return await so_far() - before


@pytest.fixture
async def long_history(world: World, owner: Connection[Record]) -> None:
    """Much was done with a journey, two hours ago."""
    await owner.execute(
        """
        INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id)
        SELECT 1, $1, 'key:a', 'journey_paused', 'journey', 'welcome'
          FROM generate_series(1, 5000) AS n
        """,
        START - timedelta(hours=2),
    )
    await owner.execute("ANALYZE audit_log")


@pytest.mark.usefixtures("long_history")
async def test_what_is_met_for_the_first_time_does_not_read_all_that_was_ever_done(
    world: World, worker_pool: Pool[Record]
) -> None:
    async def meet(conn: Connection[Record]) -> None:
        await audit.append_hourly(
            conn,
            project_no=world.scope.project_no,
            at=START,
            action=ENTRY_REFUSED_AUDIENCE_NOT_FOUND,
            resource_id="welcome",
        )

    async with Transactions(worker_pool).read(None) as conn:
        read = await rows_read(conn, meet)

    assert (await world.actions())[-1] == "entry_refused_audience_not_found"
    assert read < 50


async def test_an_action_says_only_what_its_catalogue_entry_names(world: World) -> None:
    async with world.transactions.write(world.scope.project_no) as conn:
        with pytest.raises(AssertionError, match="emailAddress"):
            await audit.append(
                conn,
                project_no=world.scope.project_no,
                at=START,
                actor=world.scope.actor,
                action=JOURNEY_PAUSED,
                resource_id="welcome",
                metadata={"emailAddress": "ada@example.com"},
            )


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"])
async def test_nobody_may_change_or_remove_an_entry(world: World, worker_pool: Pool[Record], statement: str) -> None:
    await meet(Transactions(worker_pool), world, START)

    for transactions, project_no in ((world.transactions, world.scope.project_no), (Transactions(worker_pool), None)):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with transactions.write(project_no) as conn:
                await conn.execute(statement)
