"""Processes of ours: they write to a log of their own, never see the terminal's Ctrl-C, and do not outlive us."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from orchestrator.devstack.failure import StackFailure

logger = logging.getLogger(__name__)

_TETHER = Path(__file__).with_name("tether.py")
_LOG_LIMIT_BYTES = 20 * 2**20
_POSTGRES = "postgres"
_PATIENCE_WITH_POSTGRES = 5.0


class Process:
    """A running child. `stop` asks, waits, then kills; it may be called twice."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._stop_signal = stop_signal

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """A process that has ended already is left alone."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self, *, grace: float) -> int:
        """Ends the process and returns its exit code; after `grace` seconds without an end, by SIGKILL."""
        if self._process.returncode is None:
            self.send(self._stop_signal)
            try:
                return await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                logger.warning("process did not stop in time", extra={"part": self.name, "seconds": grace})
                self.send(signal.SIGKILL)
        return await self._process.wait()

    def last_words(self) -> str:
        """The last line of its log that says something, or how it ended."""
        lines = [line.strip() for line in _tail(self.log).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self._process.returncode}"


async def start_process(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    death_signal: signal.Signals = signal.SIGTERM,
    account: tuple[int, int] | None = None,
) -> Process:
    """Starts a child in a session of its own; call it from the main thread, whose end the child is told of.

    `death_signal` is what it gets when this process dies; `account` is (uid, gid) to run as, where this one is root.
    """
    tether = [
        sys.executable, "-I", "-S", str(_TETHER),
        str(os.getpid()), str(int(death_signal)), "-" if account is None else f"{account[0]}:{account[1]}",
    ]  # fmt: skip
    with _open_log(log) as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *tether,
                *map(str, command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise StackFailure(f"Could not start {name}: {error.strerror or error}.") from error
    return Process(name, process, log, stop_signal)


async def run_to_end(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    timeout: float,
    env: Mapping[str, str] | None = None,
    account: tuple[int, int] | None = None,
) -> tuple[int, str]:
    """Runs a command that ends by itself; returns its exit code and what it wrote. Killed after `timeout` seconds."""
    with _open_log(log) as end:
        started_at = end.tell()
    process = await start_process(
        name, command, log=log, env=env, account=account, death_signal=signal.SIGKILL, stop_signal=signal.SIGTERM
    )
    try:
        code = await asyncio.wait_for(process.wait(), timeout)
    except TimeoutError:
        raise StackFailure(f"{name} did not end within {timeout:.0f} s; see {log}.") from None
    finally:
        await process.stop(grace=1)
    with log.open("rb") as written:
        written.seek(started_at)
        return code, written.read().decode(errors="replace")


async def kill_all() -> None:
    """Ends every process below this one at once, also those that are just being started.

    Postgres is told to stop without ceremony and has a moment to do it: its parts and its shared memory go with it.
    """
    told: set[psutil.Process] = set()
    clock = asyncio.get_running_loop().time
    since = clock()
    while living := _living(psutil.Process()):
        for process in living:
            with suppress(psutil.NoSuchProcess):
                if clock() - since > _PATIENCE_WITH_POSTGRES or process.name() != _POSTGRES:
                    process.kill()
                elif process not in told and process.ppid() == os.getpid():
                    process.send_signal(signal.SIGQUIT)
                    told.add(process)
        await asyncio.sleep(0.02)


def _living(parent: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in parent.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _open_log(path: Path) -> BinaryIO:
    """For appending. One that has grown too long is put aside, for one generation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
