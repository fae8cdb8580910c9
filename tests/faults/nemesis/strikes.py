"""Carries out a plan of faults."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio import Lock, TaskGroup
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil

from orchestrator.devstack.supervisor import Supervisor
from tests.faults.checker.evidence import Outage
from tests.faults.field import kill
from tests.faults.nemesis import plan
from tests.faults.nemesis.plan import MODES, Fault
from tests.faults.nemesis.proxied_stack import ProxiedStack
from tests.faults.nemesis.proxy import Link
from tests.provider.client import RunningProvider
from tests.provider.provider import Mode

#: For how long a part that was killed may take to be there again, in seconds: others may be away that it needs.
COMING_BACK = 90.0

#: How an edge is while one of these lasts.
LINKS = {
    plan.CUT: Link(cut=True),
    plan.SILENCE: Link(silent=True),
    plan.DELAY: Link(delay=0.2),
    plan.NARROW: Link(rate=30_000, piece=1_000),
    plan.PIECES: Link(piece=100, rate=500_000),
    plan.LIMIT: Link(limit=4_000),
    plan.LINGER: Link(linger=2.0),
}


@dataclass
class Nemesis:
    """`outages`: what was away when, of all that was struck; `struck`: the faults that were carried out; `over`: the
    instant at which the last one was done, or taken back.
    """

    stack: ProxiedStack
    provider: RunningProvider
    outages: list[Outage] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    over: datetime = field(default_factory=lambda: datetime.now(UTC))
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        """Each at its time, or as soon as its part is there; returns when all are over and every part is up again."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(began + fault.at - clock())
                group.create_task(self._strike(fault))

    async def _strike(self, fault: Fault) -> None:
        match fault.kind:
            case plan.KILL:
                await self._kill(fault.target)
            case plan.FREEZE:
                await self._freeze(fault.target, fault.lasts)
            case plan.SWIZZLE:
                await self._swizzle(fault)
            case plan.PROVIDER:
                await self._behave(MODES[fault.target], fault.lasts)
            case kind:
                async with self._away(fault.target):
                    await self._between([fault.target], LINKS[kind], fault.lasts)
        self.struck.append(fault)

    async def _kill(self, name: str) -> None:
        part = self.stack.part(name)
        async with self._locks[name]:
            async with asyncio.timeout(COMING_BACK):
                while not _is_up(part):
                    await asyncio.sleep(0.02)
            async with self._away(name):
                killed = part.pid
                await kill(part)
                self._done()
                async with asyncio.timeout(COMING_BACK):
                    while part.pid == killed:
                        await asyncio.sleep(0.05)

    async def _freeze(self, name: str, seconds: float) -> None:
        part = self.stack.part(name)
        async with self._locks[name]:
            async with asyncio.timeout(COMING_BACK):
                while not _is_up(part):
                    await asyncio.sleep(0.02)
            frozen = psutil.Process(part.pid)
            async with self._away(name):
                frozen.send_signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(seconds)
                finally:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        frozen.send_signal(signal.SIGCONT)
                self._done()

    async def _swizzle(self, fault: Fault) -> None:
        """One edge after the other is cut, and restored in another order."""
        pause = fault.lasts / (len(fault.order) + len(fault.back))
        async with self._away("edges"):
            for cut in (True, False):
                for name in fault.order if cut else fault.back:
                    self.stack.edges[name].set(Link(cut=cut))
                    await asyncio.sleep(pause)
            self._done()

    async def _between(self, names: Iterable[str], link: Link, seconds: float) -> None:
        proxies = [self.stack.edges[name] for name in names]
        for proxy in proxies:
            proxy.set(link)
        try:
            await asyncio.sleep(seconds)
        finally:
            for proxy in proxies:
                proxy.set(Link())
            self._done()

    async def _behave(self, mode: Mode, seconds: float) -> None:
        await self.provider.set_mode(mode)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self.provider.set_mode(Mode())
            self._done()

    @asynccontextmanager
    async def _away(self, what: str) -> AsyncIterator[None]:
        began = datetime.now(UTC)
        try:
            yield
        finally:
            self.outages.append(Outage(what=what, began=began, ended=datetime.now(UTC)))

    def _done(self) -> None:
        self.over = datetime.now(UTC)


def _is_up(part: Supervisor) -> bool:
    return part.process.returncode is None


def together(outages: Iterable[Outage]) -> list[Outage]:
    """The same time, each instant once: what was away at the same time as something else makes nobody later."""
    merged: list[Outage] = []
    for outage in sorted(outages, key=lambda outage: outage.began):
        if merged and outage.began <= merged[-1].ended:
            last = merged[-1]
            merged[-1] = Outage(
                what=f"{last.what}, {outage.what}", began=last.began, ended=max(last.ended, outage.ended)
            )
        else:
            merged.append(outage)
    return merged
