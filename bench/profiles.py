"""Where the time of a path goes: the cores that each process keeps busy, Python functions, statements, waits.

Taken in a round of its own, after those that are measured, since looking costs a little.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil

from bench import sampling
from bench.ground import CoreTime
from bench.statements import Watch
from orchestrator.devstack.stack import Stack

#: Of functions, statements and waits are told so many, and no shares below this one, in per cent.
MOST, LEAST = 10, 2.0

#: What looking costs is none of the path's.
_LOOKING = ("bench.statements.", "bench.ground.")

#: Seconds in which a process that was asked has to answer.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`percent` of a whole."""

    name: str
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Of one path, while `of` was going on for so many seconds.

    `cores`: those that each process kept busy. `functions`: by process, shares of the time it had a core. `statements`:
    shares of the time that connections were being served; `busy` is how many were at once. `waits`: what statements
    waited for, as Postgres calls it.
    """

    of: str
    seconds: float
    cores: Mapping[str, float]
    functions: Mapping[str, tuple[Share, ...]] = field(default_factory=dict)
    statements: tuple[Share, ...] = ()
    waits: tuple[Share, ...] = ()
    busy: float = 0.0
    path: str = ""


@asynccontextmanager
async def profiled(stack: Stack, of: str, **processes: int) -> AsyncIterator[list[Profile]]:
    """What goes on in the block; the list has the profile when it is over.

    `processes`: by name, the ids of those whose functions are told: of the stack, remotes, or this one.
    """
    taken: list[Profile] = []
    sampler, watch = sampling.Sampler(), Watch(stack.addresses.database_url)
    await watch.begin()
    used, began = CoreTime(stack, **processes), time.monotonic()
    for pid in processes.values():
        if pid == os.getpid():
            sampler.begin()
        else:
            ask(pid)
    try:
        yield taken
        seconds = time.monotonic() - began
        cores = {name: round(spent / seconds, 2) for name, spent in used.used().items()}
        functions = {}
        for name, pid in processes.items():
            found = sampler.end() if pid == os.getpid() else await answer(pid)
            functions[name] = _shares(
                Counter({_told(*place): count for place, count in found.items() if not place[0].startswith(_LOOKING)})
            )
    finally:
        if sampler.runs:
            sampler.end()
        await watch.end()
    statements = watch.statements
    taken.append(
        Profile(
            of=of,
            seconds=round(seconds, 1),
            cores=cores,
            functions=functions,
            statements=_shares(statements),
            waits=_shares(watch.waits),
            busy=round(statements.total() / max(1, watch.looks), 2),
        )
    )


def ask(pid: int) -> None:
    """A process of the benches to look from here on which functions it is busy with."""
    os.kill(pid, sampling.ASK)


async def answer(pid: int) -> Counter[tuple[str, str]]:
    """What a process has found since it was asked; it looks no longer. Raises TimeoutError if it does not answer."""
    file = Path(psutil.Process(pid).environ()[sampling.DIRECTORY]) / f"{pid}.json"
    os.kill(pid, sampling.ASK)
    async with asyncio.timeout(_PATIENCE):
        while not file.exists():
            await asyncio.sleep(0.02)
    found: list[tuple[str, str, int]] = orjson.loads(file.read_bytes())
    file.unlink()
    return Counter({(function, library): count for function, library, count in found})


def _told(function: str, library: str) -> str:
    if not function:
        return f"({library})"
    return f"{function}, in {library}" if library else function


def _shares(counted: Counter[str]) -> tuple[Share, ...]:
    total = sum(counted.values())
    shares = (Share(name=name, percent=round(100 * count / total, 1)) for name, count in counted.most_common(MOST))
    return tuple(share for share in shares if share.percent >= LEAST)
