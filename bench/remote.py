"""Processes of a bench that do as they are told: one JSON line asks, one answers."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import orjson

from bench.sampling import askable

Handler = Callable[[Any], Awaitable[Any]]

_LONGEST_LINE = 16 * 2**20


class Remote:
    """A process from the outside."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def end(self) -> int:
        """Let it end, by force after 40 seconds; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return await asyncio.wait_for(self._process.wait(), 40)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    async def ask(self, what: str, argument: Any = None) -> Any:
        """What its handler of this name answers. Raises RuntimeError when the process ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps([what, argument]) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the bench ended with {await self._process.wait()}")
        return orjson.loads(line)


@asynccontextmanager
async def remote(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Remote]:
    """`python -m module arguments`, once it is ready; ended with the block. Raises RuntimeError if it ends badly.

    `environment`: what is set there besides.
    """
    with askable() as sampled:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments,
            stdin=PIPE, stdout=PIPE, limit=_LONGEST_LINE, env={**os.environ, **sampled, **(environment or {})},
        )  # fmt: skip
        asked = Remote(process)
        try:
            await asked.ask("ready")
            yield asked
            if code := await asked.end():
                raise RuntimeError(f"{module} ended with {code}")
        finally:
            await asked.end()


def run(main: Coroutine[Any, Any, None]) -> NoReturn:
    """Runs it to its end, and ends the process with 0.

    Native threads of Temporal's SDK may touch an interpreter that is being torn down, so it is not.
    """
    asyncio.run(main)
    os._exit(0)


async def obey(handlers: Mapping[str, Handler]) -> None:
    """Answer what is asked on stdin until it ends."""
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        what, argument = orjson.loads(line)
        answer = None if what == "ready" else await handlers[what](argument)
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()
