"""The clock of the day of processes that are started with its environment, which can be moved while they run.

It is moved for all that asks the C library: Python, the native parts of its packages (gRPC, the SDK of Temporal), and
what they start. Postgres and Temporal are started without it, and keep the machine's.
"""

from __future__ import annotations

import asyncio
import mmap
import random
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

_SOURCE = Path(__file__).with_name("moved_clock.c")
_INT64 = struct.Struct("=q")


class MovedClock:
    """Made of a directory of its own. Skips the test where nothing can compile it."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("moving the clock of a process takes a C compiler, cc")
        self._library = directory / "moved_clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", self._library, _SOURCE, "-ldl"], check=True)
        self._moved_by = directory / "moved_by"
        self._moved_by.write_bytes(_INT64.pack(0))
        with self._moved_by.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _INT64.size)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_MOVED_BY": str(self._moved_by)}

    def is_that_of(self, pid: int) -> bool:
        """Whether this process asks here what time it is."""
        mapped = {found.path for found in psutil.Process(pid).memory_maps()}
        return {str(self._library), str(self._moved_by)} <= mapped

    def move(self, by: timedelta) -> None:
        """So much before, or behind, the machine's clock, from now on."""
        # Eight bytes at their place, which are written at once: nobody reads half of them.
        self._map[:] = _INT64.pack(int(by.total_seconds() * 1e9))

    @asynccontextmanager
    async def strobing(self, within: timedelta, rng: random.Random) -> AsyncIterator[None]:
        """As long as the block lasts, it jumps to and fro, hundreds of times a second."""

        async def strobe() -> None:
            while True:
                self.move(within * rng.random())
                await asyncio.sleep(0.002)

        task = asyncio.create_task(strobe())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.move(timedelta(0))
