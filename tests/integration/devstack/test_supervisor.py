from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import Process, start_process
from orchestrator.devstack.supervisor import Supervisor


class Sleeper:
    """A part that comes up, unless it is told to refuse some of its next starts."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.refusals = 0
        self.started = asyncio.Event()

    async def begin(self) -> Process:
        if self.refusals:
            self.refusals -= 1
            raise StackFailure("the sleeper refuses")
        process = await start_process("sleeper", ["sleep", "300"], log=self.log)
        self.started.set()
        return process


@pytest.fixture
def sleeper(tmp_path: Path) -> Sleeper:
    return Sleeper(tmp_path / "log")


async def test_what_was_killed_is_started_again(sleeper: Sleeper) -> None:
    said: list[str] = []
    part = Supervisor("sleeper", sleeper.begin, grace=5, talk=said.append)
    await part.start()
    first = part.pid

    sleeper.started.clear()
    os.kill(first, signal.SIGKILL)
    await asyncio.wait_for(sleeper.started.wait(), 10)
    await asyncio.sleep(0)

    assert part.pid != first
    assert part.restarts == 1
    assert said == [f"sleeper ended (SIGKILL, log: {sleeper.log}); starting it again."]
    await part.stop()


async def test_a_part_that_does_not_come_up_again_is_tried_until_it_does(sleeper: Sleeper) -> None:
    said: list[str] = []
    part = Supervisor("sleeper", sleeper.begin, grace=5, talk=said.append)
    await part.start()

    sleeper.started.clear()
    sleeper.refusals = 2
    os.kill(part.pid, signal.SIGKILL)
    await asyncio.wait_for(sleeper.started.wait(), 10)

    assert part.restarts == 3
    assert said[1:] == ["the sleeper refuses"] * 2
    await part.stop()


async def test_what_was_stopped_stays_down_until_it_is_started(sleeper: Sleeper) -> None:
    part = Supervisor("sleeper", sleeper.begin, grace=5, talk=lambda sentence: None)
    await part.start()
    first = part.process

    await part.stop(signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    await part.start()

    assert part.process is not first
    assert part.process.returncode is None
    assert part.restarts == 0
    await part.stop()


async def test_a_first_start_that_fails_is_the_callers(sleeper: Sleeper) -> None:
    sleeper.refusals = 1
    part = Supervisor("sleeper", sleeper.begin, grace=5, talk=lambda sentence: None)

    with pytest.raises(StackFailure, match="the sleeper refuses"):
        await part.start()
    await part.stop()
