"""A database that is away is not asked for connections by everybody who wants one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.application.transactions import Transactions
from orchestrator.storage import connector
from orchestrator.storage.outages import is_outage
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from tests.eventually import eventually
from tests.faults.nemesis.proxy import Link, Proxy

WANTING = 500


async def test_very_many_who_want_a_connection_that_is_not_to_be_had_try_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "PAUSE", 2.0)
    (directory,) = parse_qs(urlsplit(database).query)["host"]
    async with Proxy(Path(directory) / ".s.PGSQL.5432") as proxy:
        parts = urlsplit(database)
        dsn = f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"
        pool = await open_pool(dsn, role=WORKER_ROLE, size=8, application_name="test")
        transactions = Transactions(pool)

        async def read() -> int:
            async with transactions.read(None) as conn:
                found: int = await conn.fetchval("SELECT 1")
                return found

        try:
            assert await read() == 1
            proxy.set(Link(cut=True))
            asked = proxy.tried
            met: Counter[bool] = Counter()
            for _ in range(WANTING):
                try:
                    await read()
                except Exception as error:
                    met[is_outage(error)] += 1
            tries = proxy.tried - asked
            proxy.set(Link())

            async def is_served() -> bool:
                try:
                    return await read() == 1
                except ConnectionRefusedError:
                    return False

            await eventually(is_served, within=connector.PAUSE + 5)
        finally:
            await pool.close()

    assert met == {True: WANTING}
    assert 1 <= tries <= 5, "as many as two seconds let through, on a machine that is slow"
