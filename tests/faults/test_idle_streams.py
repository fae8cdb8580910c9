"""Ten thousand streams on which nothing is asked, and hundreds of requests that come byte by byte: who calls meanwhile
does not notice.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpc
import pytest

from orchestrator.api.grpc_open_calls import EACH
from orchestrator.devstack.stack import Stack
from tests.faults.callers import LIST
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), in_soak_alone]

STREAMS, DRIPPING = 10_000, 300
#: Calls of one measurement, and how often both are taken in turns.
CALLS, ROUNDS = 400, 3
#: p95 beside the same without.
SLOWER = 1.25


async def test_ten_thousand_idle_streams_and_dripping_requests_make_no_call_slower(
    running_stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    async with grpc.aio.insecure_channel(running_stack.addresses.grpc) as channel:
        call: Any = channel.unary_unary(LIST)
        metadata = (("authorization", f"Bearer {running_stack.keys.owner}"),)

        async def p95() -> float:
            took = []
            for _ in range(CALLS):
                began = time.perf_counter()
                await call(b"", metadata=metadata, timeout=10)
                took.append(time.perf_counter() - began)
            return quantiles(took, n=100, method="inclusive")[94]

        await p95()
        ratios, became = [], []
        for _ in range(ROUNDS):
            before = await p95()
            async with idling(running_stack) as told:
                became.append(told)
                ratios.append(await p95() / before)

    with capsys.disabled():
        print(f"\n{became}; p95 beside before {', '.join(f'{ratio:.2f}' for ratio in ratios)}")  # noqa: T201
    for told in became:
        assert told.keys() == {"OPEN", "RESOURCE_EXHAUSTED"}
        assert told["OPEN"] <= EACH
        assert sum(told.values()) == STREAMS
    assert median(ratios) <= SLOWER


@asynccontextmanager
async def idling(stack: Stack) -> AsyncIterator[dict[str, int]]:
    """What became of the streams, those of which are held that could be opened; and requests drip."""
    addresses = stack.addresses
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.idlers", addresses.grpc, str(STREAMS), addresses.http, str(DRIPPING)),
        stdin=PIPE,
        stdout=PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        process.stdin.write(b"\n")
        await asyncio.wait_for(process.wait(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
