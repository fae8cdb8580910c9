"""Five connections and two hundred callers, in processes of their own: whoever is too many is told so at once."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import StartStack
from tests.eventually import eventually
from tests.integration.api.test_load import waiting
from tests.integration.api.test_overload import stuck
from tests.soak import in_soak_alone

if TYPE_CHECKING:
    from asyncpg import Connection, Record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120), in_soak_alone]

CONNECTIONS, PROCESSES, EACH = 5, 4, 50
#: Seconds: in which whoever is too many is told so, for which nobody goes on, and until all connections rest again.
AT_ONCE, HELD, IDLE_AGAIN = 0.3, 1.5, 2.0

_BUSY = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'orchestrator-server' AND state <> 'idle'
"""


async def test_whoever_is_too_many_is_told_within_a_third_of_a_second(
    start_stack: StartStack, owner: Connection[Record], database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = await start_stack(environment={"ORCHESTRATOR_POOL_SIZE": str(CONNECTIONS)}, workers=1)
    root = Path(__file__).parents[2]
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.callers", stack.addresses.grpc, stack.keys.owner, str(EACH)),
            stdin=PIPE,
            stdout=PIPE,
            cwd=root,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert await _line(process) == "connected"
        async with stuck(owner), grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"\n")
            await eventually(lambda: _are_waiting(database))
            health = health_pb2_grpc.HealthStub(channel)
            until = asyncio.get_running_loop().time() + HELD
            statuses = set()
            while asyncio.get_running_loop().time() < until:
                statuses.add((await health.Check(health_pb2.HealthCheckRequest())).status)
                await asyncio.sleep(0.1)
        told = [one for process in processes for one in json.loads(await _line(process))]
        await eventually(lambda: _rest(owner), within=IDLE_AGAIN)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    codes = Counter(code for code, _, _ in told)
    refused = [(seconds, comes_back) for code, seconds, comes_back in told if code == "RESOURCE_EXHAUSTED"]
    with capsys.disabled():
        print(f"\n{dict(codes)}; told after {max(seconds for seconds, _ in refused):.3f} s at most")  # noqa: T201
    assert len(told) == PROCESSES * EACH
    assert codes.keys() == {"OK", "RESOURCE_EXHAUSTED"}
    assert len(refused) >= len(told) // 4
    assert all(comes_back for _, comes_back in refused)
    assert statuses == {health_pb2.HealthCheckResponse.SERVING}
    assert max(seconds for seconds, _ in refused) <= AT_ONCE


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def _are_waiting(database: str) -> bool:
    return await waiting(database) >= CONNECTIONS


async def _rest(owner: Connection[Record]) -> bool:
    busy: int = await owner.fetchval(_BUSY)
    return busy == 0
