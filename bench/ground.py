"""What every bench stands on: the product as `orchestrator up` starts it, in a directory that is gone afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench import sampling
from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.stack import POSTGRES, TEMPORAL, Stack, StackOptions, worker_name

WORKER = worker_name(1)

#: As docs/operations.md has it: a quarter of the memory.
POSTGRES_SETTINGS = {"shared_buffers": f"{psutil.virtual_memory().total // 4 // 2**20}MB"}


@asynccontextmanager
async def ground(environment: Mapping[str, str] | None = None) -> AsyncIterator[Stack]:
    """A durable Postgres, set up as one that matters, and a Temporal of our own, a server and one worker; benches stop
    what they do not need.

    `environment`: further settings of server and worker.
    """
    grpc, http, temporal, temporal_ui = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as directory, sampling.askable() as sampled:
        options = StackOptions(
            data_dir=Path(directory) / "data",
            grpc_port=grpc,
            http_port=http,
            temporal_port=temporal,
            temporal_ui_port=temporal_ui,
            metrics_port=None,
            workers=1,
            postgres_settings=POSTGRES_SETTINGS,
            environment={
                "ORCHESTRATOR_LOG_LEVEL": "warning",
                # One key does here what many do elsewhere.
                "ORCHESTRATOR_CALLS_PER_SECOND": "0",
                **sampled,
                **(environment or {}),
            },
        )
        async with Stack(options, talk=_talk) as stack:
            yield stack


async def furnish(stack: Stack, *documents: tuple[str, dict[str, Any]]) -> None:
    """Post these documents to these paths of the API, in order."""
    headers = {"authorization": f"Bearer {stack.keys.owner}"}
    async with httpx.AsyncClient(base_url=stack.addresses.http, headers=headers, timeout=30) as api:
        for path, document in documents:
            answer = await api.post(path, json=document)
            if answer.is_error:
                raise RuntimeError(f"{path}: {answer.text}")


class CoreTime:
    """Seconds of a core that each part of a stack, and others by their process ids, have used since this was made."""

    def __init__(self, stack: Stack, **others: int) -> None:
        self._pids = {name: stack.part(name).pid for name in (POSTGRES, TEMPORAL)} | others
        self._before = {name: _core_seconds(pid) for name, pid in self._pids.items()}
        self._began = time.monotonic()

    def used(self) -> dict[str, float]:
        return {name: _core_seconds(pid) - self._before[name] for name, pid in self._pids.items()}

    def told(self, per: int) -> str:
        """In words, for `per` things done: milliseconds each."""
        each = ", ".join(f"{name} {1000 * seconds / per:.2f}" for name, seconds in self.used().items())
        return f"core-ms each: {each}"


async def calm(stack: Stack) -> None:
    """Returns when Temporal has next to nothing to do any more."""
    async with asyncio.timeout(600):
        while True:
            used = CoreTime(stack)
            await asyncio.sleep(2.0)
            if used.used()[TEMPORAL] < 0.4:
                return


def _core_seconds(pid: int) -> float:
    """Of a process and its children, dead ones included; of this one alone, for its children are all the others."""
    total = 0.0
    parent = psutil.Process(pid)
    if pid == os.getpid():
        own = parent.cpu_times()
        return own.user + own.system
    for process in (parent, *parent.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    reaped = parent.cpu_times()
    return total + reaped.children_user + reaped.children_system


def _talk(sentence: str) -> None:
    if not sentence.startswith("Applied "):
        print(sentence, file=sys.stderr)
