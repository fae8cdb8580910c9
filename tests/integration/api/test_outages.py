"""Postgres or Temporal goes away, and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orchestrator.devstack.postgres import SUPERUSER, EmbeddedPostgres
from orchestrator.server import running
from orchestrator.storage.migrations import SchemaRefused
from orchestrator.storage.reachability import DatabaseUnreachable
from orchestrator.v1 import audience_service_pb2 as audiences
from tests.eventually import eventually
from tests.faults.nemesis.proxy import Link, Proxy
from tests.integration.api.callers import Refused
from tests.integration.api.conftest import Served, settings_of
from tests.integration.api.test_contract import creation

PROBE = audiences.ListAudiencesRequest()


@asynccontextmanager
async def closed(postgres: EmbeddedPostgres, database: str) -> AsyncIterator[None]:
    """While the block lasts, the database takes no connections and has thrown out those it had."""
    name = urlsplit(database).path.lstrip("/")
    conn = await asyncpg.connect(postgres.dsn("postgres", user=SUPERUSER))
    try:
        await conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    finally:
        await conn.close()


async def test_without_postgres_calls_are_told_to_try_again_and_health_says_so(
    served: Served, postgres: EmbeddedPostgres, database: str
) -> None:
    await served.grpc.call(creation("before"))
    health = health_pb2_grpc.HealthStub(served.grpc.channel)

    async def serving() -> bool:
        answer = await health.Check(health_pb2.HealthCheckRequest(service="orchestrator.v1.JourneyService"))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def not_serving() -> bool:
        return not await serving()

    async with closed(postgres, database):
        for caller in served.callers:
            with pytest.raises(Refused) as refusal:
                await caller.call(PROBE)
            assert (refusal.value.code, refusal.value.reason) == ("UNAVAILABLE", "UNAVAILABLE")
            assert refusal.value.retry_after == timedelta(seconds=1)
        await eventually(not_serving)
        ready = await served.http.client.get("/readyz")
        alive = await served.http.client.get("/healthz")
        assert (ready.status_code, ready.json(), alive.status_code) == (503, {"status": "not ready"}, 200)

    # And back, by itself.
    await eventually(serving)
    assert [audience.id for audience in (await served.grpc.call(PROBE)).audiences] == ["before"]


async def test_without_temporal_the_server_serves_and_says_that_something_is_away(served: Served) -> None:
    async def degraded() -> bool:
        answer = await served.http.client.get("/readyz")
        return answer.status_code == 200 and answer.json() == {"status": "degraded"}

    await eventually(degraded)

    assert (await served.grpc.call(creation("buyers"))).audience.id == "buyers"


async def test_a_database_without_a_schema_is_one_sentence(empty_database: str) -> None:
    with pytest.raises(SchemaRefused, match="orchestrator migrate"):
        async with running(settings_of(empty_database)):
            pytest.fail("it started")


@pytest.mark.parametrize("limit", [200, 1_000, 2_000, 3_000, 4_000])
async def test_a_database_that_goes_away_in_the_middle_of_the_start_is_one_sentence(database: str, limit: int) -> None:
    (directory,) = parse_qs(urlsplit(database).query)["host"]
    async with Proxy(Path(directory) / ".s.PGSQL.5432") as proxy:
        proxy.set(Link(limit=limit))
        parts = urlsplit(database)
        dsn = f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"
        with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:"):
            async with running(settings_of(dsn)):
                pytest.fail("it started")


async def test_a_database_that_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:1"):
        async with running(settings_of("postgresql://u@127.0.0.1:1/d")):
            pytest.fail("it started")
