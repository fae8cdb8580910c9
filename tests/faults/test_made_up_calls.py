"""Very many calls that are made up of the contract, against a server and a worker with processes of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.devstack.stack import SERVER, worker_name
from tests.acceptance.ground import ground_at
from tests.acceptance.made_up_calls import Made, make_up
from tests.acceptance.openapi_cases import ALL_NOUNS
from tests.conftest import StartStack
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY
from tests.soak import SOAK

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600 if SOAK else 300)]

CALLS = 20_000 if SOAK else 2_000
#: Calls between two looks at the server's memory. Each round has a project of its own.
ROUND = 2_000 if SOAK else 1_000
#: Seconds by which the loop of the server may be late: 99 of 100 times that it is looked at, and ever. Judged in the
#: soak, which has the machine for itself.
LATE, LATEST = 0.05, 0.25
#: Bytes by which the server may have grown since the first round, in which it loads what it needs.
GROWTH = 50 * 1024 * 1024


async def test_a_server_outlives_very_many_made_up_calls_and_does_not_grow(
    start_stack: StartStack, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("ORCHESTRATOR_SEED", "20261130"))
    stack = await start_stack(operator_key=OPERATOR_KEY, internal_token=INTERNAL_TOKEN, workers=1)
    parts = [stack.part(SERVER), stack.part(worker_name(1))]
    pids = [part.pid for part in parts]
    server = psutil.Process(pids[0])
    grpc_port, http_port = (_port(address) for address in (stack.addresses.grpc, stack.addresses.http))
    made, sizes, began = Made(), list[int](), time.monotonic()

    async with ground_at(database, grpc_port, http_port) as ground:
        for number in range(CALLS // ROUND):
            project = await ground.project(f"round-{number}", ALL_NOUNS)
            made.add(await make_up(ground, project, calls=ROUND, seeded=seed + number))
            sizes.append(server.memory_info().rss)
        seconds = time.monotonic() - began
        lags = await _lags(stack.addresses.http)

    usual = next(bound for bound, times in lags.items() if times >= 0.99 * lags[float("inf")])
    stalls = lags[float("inf")] - lags[LATEST]
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{made}\nin {seconds:.0f} s; late by {usual} s at most 99 of 100 times, by more than {LATEST} s"
            f" {stalls:.0f} of {lags[float('inf')]:.0f} times; grown by {(sizes[-1] - sizes[0]) / 2**20:.0f} MiB"
        )
    assert made.findings == [], f"seed {seed}"
    assert [part.pid for part in parts] == pids, "nobody had to be started again"
    assert [error for part in parts for error in _errors(part.process.log)] == []
    assert sizes[-1] - sizes[0] < GROWTH, sizes
    assert made.calls >= CALLS * 3 // 4, made
    if SOAK:
        assert usual <= LATE
        assert stalls == 0


async def _lags(address: str) -> dict[float, float]:
    """How often the server's loop was late by so many seconds at most."""
    async with httpx.AsyncClient(base_url=address) as http:
        page = (await http.get("/metrics")).text
    (family,) = (
        one for one in text_string_to_metric_families(page) if one.name == "orchestrator_server_loop_lag_seconds"
    )
    return {float(one.labels["le"]): one.value for one in family.samples if one.name.endswith("_bucket")}


def _port(address: str) -> int:
    return urlsplit(address if "//" in address else f"//{address}").port or 0


def _errors(log: Path) -> list[str]:
    """The lines of a log that tell of what nobody had foreseen."""
    return [line for line in log.read_text().splitlines() if '"level":"error"' in line or " error " in line[:60]]
