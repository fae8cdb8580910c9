"""Clocks of server and workers are wrong, jump, and go back. Durable times are the database's and Temporal's: nobody
goes on before his time, and nothing goes out twice.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.devstack.stack import SERVER, worker_name
from tests.conftest import StartStack
from tests.faults.clocks.clock import MovedClock
from tests.faults.field import ENVIRONMENT, Field, field_on
from tests.soak import in_soak_alone

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

#: By how much clocks are wrong, one after the other; the last two go back by an hour, and by five seconds beyond.
MOVES = [timedelta(seconds=5), timedelta(seconds=-5), timedelta(hours=1), timedelta(0), timedelta(seconds=-5)]
STROBE = timedelta(milliseconds=200)
#: Seconds for which each lasts, and for which it strobes.
LASTS = 6.0
#: How many sign up meanwhile, at each.
CROWD = 40
HOUR = timedelta(hours=1)


@in_soak_alone
async def test_whatever_the_clocks_of_server_and_workers_say_nobody_is_early_and_nothing_goes_out_twice(
    start_stack: StartStack, tmp_path: Path
) -> None:
    clock = MovedClock(tmp_path)
    stack = await start_stack(environment=ENVIRONMENT | clock.environment)
    everybody: list[str] = []

    async with field_on(stack, tmp_path) as field:
        parts = [stack.part(name) for name in (SERVER, worker_name(1), worker_name(2))]
        assert all(clock.is_that_of(part.pid) for part in parts)
        await field.furnish(wait="3s")
        for by in MOVES:
            clock.move(by)
            await during(field, everybody)
        async with clock.strobing(STROBE, random.Random(1)):
            await during(field, everybody)
        await field.ended(len(everybody))

        await field.check(everybody)
        accepted = [receipt.key for receipt in field.provider.accepted()]
        assert len(accepted) == len(set(accepted))


async def during(field: Field, everybody: list[str]) -> None:
    """Some come now, and wait; some of those before go on."""
    some = [f"p-{len(everybody) + n}" for n in range(CROWD)]
    everybody += some
    began = asyncio.get_running_loop().time()
    await field.sign_up(some)
    await asyncio.sleep(max(began + LASTS - asyncio.get_running_loop().time(), 0))


def test_the_clock_of_a_process_is_moved_while_it_runs_and_no_other(tmp_path: Path) -> None:
    clock = MovedClock(tmp_path)
    program = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clock.environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for by in (timedelta(0), HOUR, -HOUR):
            clock.move(by)
            process.stdin.write("\n")
            process.stdin.flush()
            of_the_day, monotonic = map(float, process.stdout.readline().split())

            assert abs(of_the_day - time.time() - by.total_seconds()) < 5
            assert abs(monotonic - time.monotonic()) < 5
        process.stdin.close()
