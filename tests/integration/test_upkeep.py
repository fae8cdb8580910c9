"""Keys by which repeats are known go when they have had their time, and not before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from orchestrator.application import known_event_ids
from orchestrator.application.known_event_ids import KnownEventIds
from orchestrator.application.transactions import Transactions
from orchestrator.application.upkeep import CHUNK, Upkeep
from orchestrator.storage import clock, stats, upkeep
from orchestrator.storage.upkeep import Turn
from tests.integration.journey_world import World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


async def test_answers_are_kept_for_seven_days_and_event_ids_for_thirty(
    owner: Connection[Record], worker_pool: Pool[Record]
) -> None:
    await owner.execute(
        "INSERT INTO idempotency (project_no, principal, method, request_id, fingerprint, created_at)"
        " SELECT 1, 'key:k1', 'M', n::text, '', now() - n * interval '1 day' + interval '1 minute'"
        " FROM generate_series(1, 10) AS n"
    )
    await owner.execute(
        "INSERT INTO event_ids (project_no, event_hash, received_at)"
        " SELECT 1, gen_random_uuid(), now() - n * interval '1 day' + interval '1 minute'"
        " FROM generate_series(1, 40) AS n"
    )

    assert await Upkeep(Transactions(worker_pool)).run() == 3 + 10

    assert await owner.fetchval("SELECT max(request_id::int) FROM idempotency") == 7
    assert await owner.fetchval("SELECT count(*) FROM event_ids") == 30


async def test_more_than_fits_into_one_transaction_goes_all_the_same(
    owner: Connection[Record], worker_pool: Pool[Record]
) -> None:
    await owner.execute(
        "INSERT INTO event_ids (project_no, event_hash, received_at)"
        " SELECT 1, gen_random_uuid(), now() - interval '31 days' FROM generate_series(1, $1)",
        CHUNK + 10,
    )

    assert await Upkeep(Transactions(worker_pool)).run() == CHUNK + 10


async def test_whoever_is_told_to_stop_stops(owner: Connection[Record], worker_pool: Pool[Record]) -> None:
    await owner.execute("INSERT INTO event_ids VALUES (1, gen_random_uuid(), now() - interval '31 days')")

    assert await Upkeep(Transactions(worker_pool)).run(lambda: False) == 0


async def test_a_part_that_fails_keeps_no_other_from_being_done(
    owner: Connection[Record], worker_pool: Pool[Record], caplog: pytest.LogCaptureFixture
) -> None:
    await owner.execute(
        """
        INSERT INTO idempotency (project_no, principal, method, request_id, fingerprint, created_at)
        VALUES (1, 'key:k1', 'M', 'r', '', now() - interval '8 days');
        INSERT INTO event_ids VALUES (1, gen_random_uuid(), now() - interval '31 days');
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'on purpose'; END $$;
        CREATE TRIGGER fail BEFORE DELETE ON idempotency FOR EACH ROW EXECUTE FUNCTION fail();
        """
    )

    assert await Upkeep(Transactions(worker_pool)).run() == 1

    assert await owner.fetchval("SELECT count(*) FROM event_ids") == 0
    assert [vars(record).get("part") for record in caplog.records if record.levelname == "ERROR"] == ["requests"]


async def test_what_another_process_is_at_is_left_to_it(owner: Connection[Record], worker_pool: Pool[Record]) -> None:
    await owner.execute("INSERT INTO event_ids VALUES (1, gen_random_uuid(), now() - interval '31 days')")
    await owner.execute(
        "INSERT INTO idempotency (project_no, principal, method, request_id, fingerprint, created_at)"
        " VALUES (1, 'key:k1', 'M', 'r', '', now() - interval '8 days')"
    )
    transactions = Transactions(worker_pool)

    async with transactions.write(None) as conn:
        assert await upkeep.take_turn(conn, Turn.EVENT_IDS)
        beside = await Upkeep(transactions).run()
    afterwards = await Upkeep(transactions).run()

    assert (beside, afterwards) == (1, 1)


async def test_of_every_project_the_oldest_answers_go_and_no_others_are_read(
    owner: Connection[Record], worker_pool: Pool[Record]
) -> None:
    await owner.execute(
        "INSERT INTO idempotency (project_no, principal, method, request_id, fingerprint, created_at)"
        " SELECT n % 3, 'key:k1', 'M', n::text, '', now() - CASE WHEN n < 10 THEN interval '8 days' ELSE '0' END"
        "   FROM generate_series(0, 20000) AS n"
    )
    await owner.execute("ANALYZE idempotency")

    async with Transactions(worker_pool).write(None) as conn:
        gone = await upkeep.forget_requests(conn, await clock.now(conn), CHUNK)
        read = await conn.fetchval(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'idempotency'"
        )

    assert gone == 10
    assert read < 100


READ = """
SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables WHERE relname LIKE 'event_ids%'
"""


async def lay_event_ids(owner: Connection[Record], count: int) -> None:
    """So many, every tenth of which has had its time, and lies between others."""
    await owner.execute(
        "INSERT INTO event_ids (project_no, event_hash, received_at)"
        " SELECT 1, gen_random_uuid(), now() - CASE WHEN n % 10 = 0 THEN interval '31 days' ELSE '0' END"
        "   FROM generate_series(1, $1::int) AS n",
        count,
    )


async def test_each_transaction_reads_some_pages_of_event_ids_wherever_old_ones_lie(
    owner: Connection[Record], worker_pool: Pool[Record]
) -> None:
    await lay_event_ids(owner, 60_000)
    transactions = Transactions(worker_pool)
    gone, read = [], [await owner.fetchval(READ)]

    async with transactions.write(None) as conn:
        pages = await upkeep.pages_of_event_ids(conn)
    for place in range(0, pages, 8):
        async with transactions.write(None) as conn:
            gone.append(await upkeep.forget_event_ids(conn, await clock.now(conn), range(place, place + 8)))
        async with transactions.read(None) as conn:
            await conn.execute("SELECT pg_stat_force_next_flush()")
        read.append(await owner.fetchval(READ))

    assert pages >= 32
    assert sum(gone) == 6000
    assert await owner.fetchval("SELECT count(*) FROM event_ids") == 54_000
    assert max(after - before for before, after in pairwise(read)) < 60_000 / pages * 8 * 1.5


async def test_of_a_large_table_of_event_ids_a_run_reads_a_share_and_the_next_goes_on_behind_it(
    owner: Connection[Record], worker_pool: Pool[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    await lay_event_ids(owner, 60_000)
    monkeypatch.setattr(known_event_ids, "MOST", 8)
    monkeypatch.setattr(known_event_ids, "PAGES", 4)
    event_ids = KnownEventIds(Transactions(worker_pool))

    first = await event_ids.run()
    removed, runs = first, 1
    while removed < 6000:
        removed += await event_ids.run()
        runs += 1

    assert 0 < first < 2000
    assert removed == 6000
    assert runs <= 8


async def test_refusals_of_hours_that_are_over_are_summed_up_and_their_sums_stay(
    owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    world = await World.make(owner, api_pool)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for ago in (0, 30, 31):
        for shard in range(16):
            await world.lay_refusals("audience", 10, hour=hour - timedelta(hours=ago), shard=shard)
    await world.lay_refusals("re_entry", 3, hour=hour - timedelta(hours=30), shard=5)

    async def totals() -> dict[str, int]:
        async with world.transactions.read(world.scope.project_no) as conn:
            return dict((await stats.totals(conn, world.scope.project_no, "welcome")).refused)

    before = await totals()
    assert await Upkeep(Transactions(worker_pool)).run() == 0

    assert await totals() == before == {"audience": 480, "re_entry": 3}
    rows = await owner.fetch(
        "SELECT reason, total FROM refusal_counts WHERE hour < now() - interval '1 day' ORDER BY hour, reason"
    )
    assert [tuple(row) for row in rows] == [("audience", 160), ("audience", 160), ("re_entry", 3)]
    assert await owner.fetchval("SELECT count(*) FROM refusal_counts") == 16 + 3
