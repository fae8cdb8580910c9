"""Calls that take too long, come too many at once, or are under way when the server stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import grpc
import httpx
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orchestrator.server import CannotServe, running
from orchestrator.v1 import audience_service_pb2 as audiences
from tests.eventually import eventually
from tests.integration.api.callers import Caller, GrpcCaller, HttpCaller, Refused
from tests.integration.api.conftest import OWNER_KEY, Serve, Served, settings_of
from tests.integration.api.test_contract import creation

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@asynccontextmanager
async def held_up(owner: Connection[Record]) -> AsyncIterator[None]:
    """While the block lasts, calls that change a definition wait for a lock."""
    async with owner.transaction():
        await owner.execute("SELECT FROM projects FOR UPDATE")
        yield


async def waiting(database: str) -> int:
    """How many statements wait for a lock in this database."""
    conn = await asyncpg.connect(database)
    try:
        count: int = await conn.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return count
    finally:
        await conn.close()


async def patiently(caller: Caller, request: Message) -> None:
    """Until it is let in."""
    while True:
        try:
            await caller.call(request)
        except Refused as refused:
            if refused.reason != "RATE_LIMITED":
                raise
            await asyncio.sleep(random.uniform(0.1, 1))
        else:
            return


async def test_a_call_ends_when_its_time_is_up(caller: Caller, owner: Connection[Record], database: str) -> None:
    async with held_up(owner):
        with pytest.raises(Refused) as refusal:
            await caller.call(creation("buyers"), timeout=0.3)
        # The statement was canceled, not only abandoned.
        await eventually(lambda: _waiting_are(database, 0))

    assert refusal.value.code == "DEADLINE_EXCEEDED"
    assert (await caller.call(creation("buyers"))).audience.id == "buyers"


async def test_over_http_the_server_says_so_itself(served: Served, owner: Connection[Record]) -> None:
    async with held_up(owner):
        with pytest.raises(Refused) as refusal:
            await served.http.call(creation("buyers"), timeout=0.3)

    assert (refusal.value.http_status, refusal.value.reason) == (504, "DEADLINE_EXCEEDED")


async def test_a_canceled_call_leaves_nothing_behind(served: Served, owner: Connection[Record], database: str) -> None:
    async with held_up(owner):
        calls = [asyncio.create_task(served.grpc.call(creation(f"a{n}", request_id=f"r{n}"))) for n in range(20)]
        # As many as there are connections.
        await eventually(lambda: _waiting_are(database, 8))
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await eventually(lambda: _waiting_are(database, 0))

    # Every connection is good for new calls, the same ones included.
    again = [served.grpc.call(creation(f"a{n}", request_id=f"r{n}")) for n in range(20)]
    assert len({answer.audience.id for answer in await asyncio.gather(*again)}) == 20


async def test_a_wave_beyond_the_limit_is_told_to_come_back_and_the_rest_is_served(
    serve: Serve, owner: Connection[Record], database: str
) -> None:
    async with serve(max_calls=4) as served:
        async with held_up(owner):
            calls = [asyncio.create_task(served.grpc.call(creation(f"a{n}"))) for n in range(40)]
            await eventually(lambda: sum(call.done() for call in calls) == 36)
            await eventually(lambda: _waiting_are(database, 4))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        told = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert len(told) == 36
        assert {(one.code, one.reason) for one in told} == {("RESOURCE_EXHAUSTED", "RATE_LIMITED")}
        assert {one.retry_after for one in told} == {timedelta(seconds=1)}
        assert await owner.fetchval("SELECT count(*) FROM audiences") == 4
        # The places are free again.
        assert (await served.grpc.call(creation("later"))).audience.id == "later"


async def test_over_http_too_many_calls_are_429_with_a_time_to_come_back(
    serve: Serve, owner: Connection[Record], database: str
) -> None:
    async with serve(max_calls=1) as served:
        async with held_up(owner):
            first = asyncio.create_task(served.http.call(creation("first")))
            await eventually(lambda: _waiting_are(database, 1))
            answer = await served.http.client.get("/v1/audiences", headers={"X-Api-Key": OWNER_KEY})
        await first

        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")


async def test_a_small_pool_is_shared_and_never_deadlocks(serve: Serve, owner: Connection[Record]) -> None:
    async with serve(pool_size=2) as served:
        calls = [
            patiently(caller, creation(f"a{number}", request_id=f"r{number}"))
            for number in range(8)
            for caller in served.callers
            for _ in range(8)
        ]
        reads = [patiently(served.grpc, audiences.ListAudiencesRequest()) for _ in range(40)]

        await asyncio.gather(*calls, *reads)

        assert await owner.fetchval("SELECT count(*) FROM audiences") == 8


async def test_a_stopping_server_finishes_what_it_has_begun_and_takes_nothing_new(
    database: str, owner: Connection[Record]
) -> None:
    server = running(settings_of(database))
    listening = await server.__aenter__()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{listening.grpc_port}") as channel,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.http_port}", timeout=30) as client,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        await eventually(lambda: _serving(health))
        async with held_up(owner):
            by_grpc = asyncio.create_task(GrpcCaller(channel, OWNER_KEY).call(creation("by-grpc")))
            by_http = asyncio.create_task(HttpCaller(client, OWNER_KEY).call(creation("by-http")))
            await eventually(lambda: _waiting_are(database, 2))

            stopping = asyncio.create_task(server.__aexit__(None, None, None))
            await eventually(lambda: not listening.health.state.ready)
            await eventually(lambda: _refuses(listening.grpc_port))
            await eventually(lambda: _refuses(listening.http_port))
            assert [by_grpc.done(), by_http.done(), stopping.done()] == [False, False, False]
        answers = await asyncio.gather(by_grpc, by_http)
        await stopping

    assert [answer.audience.id for answer in answers] == ["by-grpc", "by-http"]


async def test_a_draining_server_says_so_before_it_refuses(database: str) -> None:
    server = running(settings_of(database, drain_seconds=0.5))
    listening = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listening.grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        await eventually(lambda: _serving(health))

        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        await eventually(lambda: not listening.health.state.ready)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="orchestrator.v1.JourneyService"))
        served = await GrpcCaller(channel, OWNER_KEY).call(audiences.ListAudiencesRequest())
        await stopping

    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert list(served.audiences) == []


async def test_what_does_not_end_in_time_is_cut_and_rolled_back(database: str, owner: Connection[Record]) -> None:
    server = running(settings_of(database, grace_seconds=0.2))
    listening = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listening.grpc_port}") as channel:
        async with held_up(owner):
            call = asyncio.create_task(GrpcCaller(channel, OWNER_KEY).call(creation("late")))
            await eventually(lambda: _waiting_are(database, 1))
            await server.__aexit__(None, None, None)
        with pytest.raises(Refused) as refusal:
            await call

    assert refusal.value.code == "UNAVAILABLE"
    assert await owner.fetchval("SELECT count(*) FROM audiences") == 0


@pytest.mark.parametrize("taken", ["grpc_port", "http_port"])
async def test_a_second_server_on_the_same_port_does_not_start(served: Served, database: str, taken: str) -> None:
    port = getattr(served.listening, taken)

    with pytest.raises(CannotServe, match=f"127.0.0.1:{port} .* ORCHESTRATOR_{taken.upper()}"):
        async with running(settings_of(database, **{taken: port})):
            pytest.fail("it started")

    # And the first one has not lost a connection to it.
    assert list((await served.grpc.call(audiences.ListAudiencesRequest())).audiences) == []


async def _waiting_are(database: str, count: int) -> bool:
    return await waiting(database) == count


async def _serving(health: health_pb2_grpc.HealthStub) -> bool:
    answer = await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False
