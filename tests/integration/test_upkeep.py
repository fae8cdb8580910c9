"""Keys by which repeats are known go when they have had their time, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.application.transactions import Transactions
from orchestrator.application.upkeep import CHUNK, Upkeep

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
