"""What Postgres is busy with is seen while it is, by the names that the code has for it."""

from __future__ import annotations

import asyncio

import asyncpg
from bench.statements import BETWEEN, Watch

from orchestrator.storage import projects
from tests.eventually import eventually

#: As the product's connections have one.
NAMED = {"application_name": "test"}


async def test_a_statement_is_seen_by_its_name_with_what_it_waits_for(database: str) -> None:
    watch = Watch(database)
    holder, waiter = [await asyncpg.connect(database, server_settings=NAMED) for _ in range(2)]
    await watch.begin()
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.ensure_future(waiter.fetchval(projects._HOLD, 1))
            await eventually(lambda: watch.waits["Lock relation"] > 3)
        await waiting
    finally:
        await watch.end()
        await holder.close()
        await waiter.close()

    assert watch.statements["storage.projects._HOLD"] >= watch.waits["Lock relation"]
    assert watch.looks >= watch.waits["Lock relation"]


async def test_a_transaction_that_stands_still_is_seen_and_a_bench_that_looks_is_not(
    database: str,
) -> None:
    watch = Watch(database)
    conn, nameless = await asyncpg.connect(database, server_settings=NAMED), await asyncpg.connect(database)
    await watch.begin()
    try:
        async with conn.transaction():
            await conn.fetchval("SELECT 1")
            await nameless.fetchval("SELECT 2 FROM pg_sleep(0.2)")
            await eventually(lambda: watch.waits[BETWEEN] > 3)
    finally:
        await watch.end()
        await conn.close()
        await nameless.close()

    assert watch.statements["SELECT 1"] <= 1  # it may be met while it runs
    assert watch.statements["SELECT 2 FROM pg_sleep(0.2)"] == 0
