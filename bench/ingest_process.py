"""Takes events in at the application layer, and COPYs the same: `python -m bench.ingest_process DSN`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from bench import purchases
from bench.remote import obey, run
from orchestrator.application.ingest import Ingest
from orchestrator.application.transactions import Transactions
from orchestrator.domain.event import Event
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool

if TYPE_CHECKING:
    from asyncpg import Pool, Record

#: Batches under way at once, on both sides.
AT_ONCE = 4

_SAME = """
SELECT occurred_at, event_no, project_no, name_no, subject_no, bucket, received_at, event_id, properties
  FROM events WHERE event_id LIKE $1 || '-%' ORDER BY event_no
"""
_COLUMNS = (
    "occurred_at", "event_no", "project_no", "name_no", "subject_no", "bucket", "received_at", "event_id", "properties",
)  # fmt: skip


async def main(dsn: str) -> None:
    transactions = Transactions(await open_pool(dsn, role=API_ROLE, size=16, application_name="bench-ingest"))
    bare = await open_pool(dsn, role=WORKER_ROLE, size=16, application_name="bench-copy")
    ingest = Ingest(transactions)

    async def take(asked: list[Any]) -> float:
        series, count = asked
        batches = _batched([_event(series, number) for number in range(count)])

        async def one(batch: Sequence[Event]) -> None:
            await ingest.take(1, batch, backfill=False)

        return await _timed(batches, one)

    async def copy(series: str) -> float:
        """The rows of a series that was taken in, once more into a table like theirs."""
        rows = [tuple(row) for row in await bare.fetch(_SAME, series)]

        async def one(batch: Sequence[tuple[Any, ...]]) -> None:
            await _copy(bare, batch)

        return await _timed(_batched(rows), one)

    await obey({"take": take, "copy": copy})


async def _copy(pool: Pool[Record], rows: Sequence[tuple[Any, ...]]) -> None:
    async with pool.acquire() as conn:
        await conn.copy_records_to_table("bare_events", records=rows, columns=_COLUMNS)


def _event(series: str, number: int) -> Event:
    return Event(
        event_id=purchases.event_id(series, number),
        name=purchases.name(number),
        subject_id=purchases.subject_id(number),
        occurred_at=purchases.occurred_at(number),
        properties=orjson.dumps(purchases.properties(number)),
    )


def _batched(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[start : start + purchases.BATCH] for start in range(0, len(rows), purchases.BATCH)]


async def _timed(batches: list[Sequence[Any]], work: Callable[[Sequence[Any]], Awaitable[None]]) -> float:
    """Seconds to work through all batches, AT_ONCE at a time."""
    left = iter(batches)

    async def worker() -> None:
        for batch in left:
            await work(batch)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return time.perf_counter() - began


if __name__ == "__main__":
    run(main(sys.argv[1]))
