"""Keeps a process running: starts it again when it ends by itself, sooner at first than later."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.processes import Process
from orchestrator.devstack.toolbox import Talk

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
#: A process that ran this long in seconds is healthy: its next end is a new story.
_HEALTHY_AFTER = 30.0


class Supervisor:
    """One part of the stack. `begin` returns once it answers; from then on it is kept up until `stop`."""

    def __init__(self, name: str, begin: Callable[[], Awaitable[Process]], *, grace: float, talk: Talk) -> None:
        self.name = name
        self.restarts = 0
        self._begin = begin
        self._grace = grace
        self._talk = talk
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def process(self) -> Process:
        """The latest process, which may have ended. Not to be asked before `start`."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def start(self) -> None:
        """Starts it; also again after `stop`. Raises StackFailure if it does not come up."""
        self._process = await self._begin()
        self._watching = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def stop(self, number: signal.Signals | None = None) -> None:
        """Ends it and leaves it down: by `number`, or as it likes to be ended. Does nothing if it is down."""
        if self._watching is not None:
            self.forsake()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        if self._process is not None:
            if number is not None:
                self._process.send(number)
            await self._process.stop(grace=self._grace)

    def forsake(self) -> None:
        """Does not start it again any more."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        pause = _FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        while True:
            since = clock()
            code = await self.process.wait()
            if clock() - since > _HEALTHY_AFTER:
                pause = _FIRST_PAUSE
            self._talk(f"{self.name} ended ({_how(code)}, log: {self.process.log}); starting it again.")
            pause = await self._again(pause)

    async def _again(self, pause: float) -> float:
        """Tries until it is up; returns how long to wait before the next time."""
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1
            try:
                self._process = await self._begin()
            except StackFailure as failure:
                self._talk(str(failure))
            except Exception as error:
                # Whatever it was: a part that nobody tries to start is worse than one that is tried in vain.
                self._talk(f"{self.name} could not be started ({type(error).__name__}).")
            else:
                return pause


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
