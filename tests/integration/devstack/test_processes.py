from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import run_to_end, start_process
from tests.eventually import eventually

PARENT = """
import asyncio, signal, sys
from pathlib import Path
from orchestrator.devstack.processes import start_process
async def main():
    child = await start_process("child", ["sleep", "300"], log=Path(sys.argv[1]), death_signal=signal.SIGKILL)
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""


async def test_a_child_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, tmp_path / "log", stdout=subprocess.PIPE
    )  # fmt: skip
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))

    parent.kill()
    await parent.communicate()

    await asyncio.to_thread(child.wait, 10)
    assert not child.is_running()


async def test_stop_asks_first_and_kills_only_what_does_not_listen(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
    )
    polite = await start_process("polite", ["sleep", "300"], log=tmp_path / "polite")
    stubborn = await start_process("stubborn", [sys.executable, "-c", deaf], log=tmp_path / "stubborn")
    await eventually(lambda: stubborn.last_words() == "deaf")

    assert await polite.stop(grace=10) == -signal.SIGTERM
    assert await stubborn.stop(grace=0.1) == -signal.SIGKILL
    assert await stubborn.stop(grace=0.1) == -signal.SIGKILL


async def test_the_last_words_of_a_process_are_the_last_line_it_wrote(tmp_path: Path) -> None:
    process = await start_process(
        "talker", ["sh", "-c", "echo first; echo last >&2; echo; exit 3"], log=tmp_path / "log"
    )

    assert await process.wait() == 3
    assert process.last_words() == "last"


async def test_a_child_is_in_a_session_of_its_own_so_that_ctrl_c_reaches_only_us(tmp_path: Path) -> None:
    process = await start_process("child", ["sleep", "300"], log=tmp_path / "log")
    try:
        await eventually(lambda: psutil.Process(process.pid).name() == "sleep")
        assert os.getsid(process.pid) == process.pid
    finally:
        await process.stop(grace=5)


async def test_a_command_is_given_up_after_its_time(tmp_path: Path) -> None:
    before = set(psutil.Process().children())  # of the session

    with pytest.raises(StackFailure, match="sleep did not end within 0 s"):
        await run_to_end("sleep", ["sleep", "300"], log=tmp_path / "log", timeout=0.1)

    assert set(psutil.Process().children()) <= before


async def test_the_output_of_a_command_is_its_own_even_if_others_wrote_to_the_log_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    await run_to_end("first", ["echo", "first"], log=log, timeout=10)

    assert await run_to_end("second", ["echo", "second"], log=log, timeout=10) == (0, "second\n")
