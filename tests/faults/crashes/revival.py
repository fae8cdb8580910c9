"""Bringing back who has died, at once: a supervisor waits the longer, the more often its process dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.supervisor import Supervisor
from tests.faults.checker.evidence import Outage


@dataclass
class Revival:
    """`ends` counts how often a process of these parts has ended, `killed` how often a scenario has seen to that;
    `outages`: when each was away.
    """

    ends: int = 0
    killed: int = 0
    outages: list[Outage] = field(default_factory=list)

    async def _keep(self, part: Supervisor) -> None:
        part.forsake()
        while True:
            await part.process.wait()
            died = datetime.now(UTC)
            self.ends += 1
            await self._bring_back(part)
            part.forsake()
            self.outages.append(Outage(what=part.name, began=died, ended=datetime.now(UTC)))

    async def _bring_back(self, part: Supervisor) -> None:
        while True:
            try:
                return await part.start()
            except StackFailure:  # it has come to a point at which it dies before it was ready
                self.ends += 1


@asynccontextmanager
async def kept_up(parts: Iterable[Supervisor]) -> AsyncIterator[Revival]:
    """These parts are started again whenever they end, until the end of the block, at which all of them are there."""
    revival = Revival()
    kept = list(parts)
    tasks = [asyncio.create_task(revival._keep(part), name=f"revive {part.name}") for part in kept]
    try:
        yield revival
        async with asyncio.timeout(60):
            while any(part.process.returncode is not None for part in kept):
                await asyncio.sleep(0.05)
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
