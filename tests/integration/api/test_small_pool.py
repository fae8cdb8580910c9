"""Five connections, and two hundred callers at once who all need one while Postgres lets nobody go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2, health_pb2_grpc

from orchestrator.v1 import audience_service_pb2 as audiences
from tests.eventually import eventually
from tests.integration.api.callers import Refused
from tests.integration.api.conftest import Serve, Served
from tests.integration.api.test_load import waiting
from tests.integration.api.test_overload import stuck

if TYPE_CHECKING:
    from asyncpg import Connection, Record

LIST = audiences.ListAudiencesRequest()
CONNECTIONS, CALLERS = 5, 200
#: Seconds, of which most is the making of two hundred calls in the process that has to answer them.
AT_ONCE = 1.0
#: Seconds: for which nobody goes on, and until the connections have nothing to do afterwards.
HELD, IDLE_AGAIN = 1.5, 2.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller was told, and after how many seconds."""

    error: Refused | None
    seconds: float


async def asked(served: Served) -> Told:
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        await served.grpc.call(LIST)
    except Refused as error:
        return Told(error, clock() - began)
    return Told(None, clock() - began)


async def test_whoever_is_too_many_is_told_to_come_back_at_once_and_the_others_are_served(
    serve: Serve, owner: Connection[Record], database: str
) -> None:
    async with serve(pool_size=CONNECTIONS) as served:
        await served.grpc.call(LIST)
        health = health_pb2_grpc.HealthStub(served.grpc.channel)
        statuses = []

        async with stuck(owner):
            calls = [asyncio.create_task(asked(served)) for _ in range(CALLERS)]
            await eventually(lambda: _are_waiting(database, CONNECTIONS))
            until = asyncio.get_running_loop().time() + HELD
            while asyncio.get_running_loop().time() < until:
                answer = await health.Check(health_pb2.HealthCheckRequest())
                statuses.append(answer.status)
                await asyncio.sleep(0.1)
            told_meanwhile = sum(call.done() for call in calls)
            standing = await owner.fetchval(_STANDING)
        told = await asyncio.gather(*calls)
        await eventually(lambda: _are_idle(owner), within=IDLE_AGAIN)

    refused = [one for one in told if one.error is not None]
    assert told_meanwhile == len(refused) >= CALLERS // 4
    assert {one.error.reason for one in refused if one.error} == {"RATE_LIMITED"}
    assert all(one.error.retry_after for one in refused if one.error)
    assert max(one.seconds for one in refused) <= AT_ONCE
    assert len(told) - len(refused) >= CONNECTIONS
    assert set(statuses) == {health_pb2.HealthCheckResponse.SERVING}
    assert standing == 0


_STANDING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'
   AND clock_timestamp() - state_change > interval '5 s'
"""
_BUSY = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'
"""


async def _are_waiting(database: str, count: int) -> bool:
    return await waiting(database) == count


async def _are_idle(owner: Connection[Record]) -> bool:
    busy: int = await owner.fetchval(_BUSY)
    return busy == 0
