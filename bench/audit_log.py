"""What it costs that the audit log is a chain: an entry beside one that is not sealed; sealing; making it again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg

from bench.ground import WORKER, ground
from bench.plan import Plan
from bench.rows import Row, at_least, at_most, beside, ratio, spread
from orchestrator.application.audit_sealing import AuditSealing
from orchestrator.application.audit_verification import verify
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit_chain import Anchors
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool

if TYPE_CHECKING:
    from asyncpg import Pool, Record

#: Of what a bare log takes; it has the same columns, key, index and rights, and neither triggers nor seals.
TARGET = 0.85
#: Seconds for a hundred thousand entries.
VERIFIED_WITHIN = 15.0

ENTRIES = 100_000
AT_ONCE = 8

OURS, BARE = "audit_log", "bare_log"

_BARE = f"""
CREATE TABLE {BARE} (LIKE {OURS} INCLUDING ALL);
SELECT guard_project('{BARE}', 'SELECT, INSERT', 'SELECT, INSERT')
"""

_ENTRY = """
INSERT INTO {} (project_no, at, actor, action, resource_kind, resource_id, metadata)
VALUES (1, clock_timestamp(), 'key:bench', 'journey_updated', 'journey', 'welcome', '{{"fields": "name"}}')
"""

_MANY = """
INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id, metadata)
SELECT 1, now(), 'key:bench', 'journey_updated', 'journey', 'journey-' || n, '{"fields": "name"}'
  FROM generate_series(1, $1) AS n
"""


async def measure(plan: Plan) -> list[Row]:
    rates: dict[str, list[float]] = {OURS: [], BARE: []}
    async with ground() as stack:
        await stack.part(WORKER).stop()
        dsn = stack.addresses.database_url
        owner = await asyncpg.connect(dsn)
        await owner.execute(_BARE)
        api = await open_pool(dsn, role=API_ROLE, size=AT_ONCE, application_name="bench")
        workers = await open_pool(dsn, role=WORKER_ROLE, size=2, application_name="bench")
        try:
            await _write(api, OURS, 0.2)
            for number in range(2 * plan.rounds):
                for table in (OURS, BARE) if number % 2 else (BARE, OURS):
                    rates[table].append(await _write(api, table, plan.read_seconds / 4))
            await owner.execute(_MANY, ENTRIES)
            await owner.execute("ANALYZE audit_log, audit_unsealed")
            began = time.perf_counter()
            sealed = await AuditSealing(Transactions(workers)).seal()
            sealing = sealed / (time.perf_counter() - began)
            async with workers.acquire() as conn:
                began = time.perf_counter()
                found = await verify(conn, 1, Anchors())  # type: ignore[arg-type]
                seconds = (time.perf_counter() - began) * ENTRIES / sealed
            if found.head.seq != sealed or found.misfit is not None:
                raise AssertionError(f"{sealed} were sealed: {found}")
        finally:
            await api.close()
            await workers.close()
            await owner.close()
    return [
        at_least(TARGET, "audit entry, against one that is not sealed", ratio(rates[OURS], rates[BARE]), "×"),
        at_most(VERIFIED_WITHIN, "audit log made again, 100,000 entries", seconds, "s"),
        beside("audit entries sealed", sealing, "/s"),
        beside("audit entries, each committed", max(rates[OURS]), "/s", f"rounds {spread(rates[OURS])}"),
        beside("audit entries that are not sealed", max(rates[BARE]), "/s", f"rounds {spread(rates[BARE])}"),
    ]


async def _write(pool: Pool[Record], table: str, seconds: float) -> float:
    """Entries in a second, each in a transaction of its own, several at once."""
    transactions, statement, count = Transactions(pool), _ENTRY.format(table), 0
    began = time.perf_counter()

    async def writer() -> None:
        nonlocal count
        while time.perf_counter() < began + seconds:
            async with transactions.write(1) as conn:
                await conn.execute(statement)
            count += 1

    await asyncio.gather(*(writer() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - began)
