"""Servers and workers beside those of a stack, of this release and of others; and what Temporal is told of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from orchestrator.devstack.ports import LOOPBACK, free_ports
from orchestrator.devstack.processes import Process, start_process
from orchestrator.devstack.readiness import await_polling
from orchestrator.devstack.stack import SERVER, Stack, worker_name
from orchestrator.devstack.supervisor import Supervisor
from orchestrator.devstack.temporal_cli import ensure_temporal
from orchestrator.temporal.client import Target, connect
from tests.eventually import eventually
from tests.faults.second_server import SECOND_SERVER, begin_second_server

ROOT = Path(__file__).parents[2]
GRACE = 30.0

DEPLOYMENT = "orchestrator"


@dataclass(frozen=True, slots=True)
class SecondServer:
    supervisor: Supervisor
    grpc: str
    http: str


@dataclass
class Fleet:
    """Processes that are started with the environment of one of the stack's, and stopped with the test."""

    stack: Stack
    directory: Path
    processes: list[Process] = field(default_factory=list)

    async def start_worker(self, release: str, *, build: str = "", metrics_port: int | None = None) -> Process:
        """A worker of another release. Returns once it asks Temporal for work."""
        process = await self._start(
            f"worker-{release}-{build or 'plain'}",
            ["tests.faults.releases", release],
            worker_name(1),
            {
                "ORCHESTRATOR_WORKER_BUILD": build,
                "ORCHESTRATOR_WORKER_METRICS_PORT": "" if metrics_port is None else str(metrics_port),
            },
        )
        addresses = self.stack.addresses
        client = await connect(Target(address=addresses.temporal, namespace=addresses.temporal_namespace))
        await await_polling(process, client)
        return process

    async def second_server(self) -> SecondServer:
        """Another server beside the stack's, kept up as that is."""
        grpc, http = free_ports(2)

        async def begin() -> Process:
            process = await begin_second_server(
                self._environment(SERVER), self.directory / f"{SECOND_SERVER}.log", grpc=grpc, http=http
            )
            self.processes.append(process)
            return process

        server = Supervisor(SECOND_SERVER, begin, grace=GRACE, talk=lambda sentence: None)
        await server.start()
        return SecondServer(server, f"{LOOPBACK}:{grpc}", f"http://{LOOPBACK}:{http}")

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop(grace=GRACE) for process in self.processes))

    async def temporal(self, *arguments: str) -> tuple[int, str]:
        """Temporal's own command, in the stack's namespace: its exit code, and what it wrote."""
        addresses = self.stack.addresses
        command = await asyncio.create_subprocess_exec(
            await ensure_temporal(talk=lambda sentence: None),
            *arguments,
            *("--address", addresses.temporal, "--namespace", addresses.temporal_namespace),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out, _ = await command.communicate()
        assert command.returncode is not None
        return command.returncode, out.decode()

    async def make_current(self, build: str) -> None:
        """As docs/operations.md has it; again until Temporal has heard of the build."""
        said = ""

        async def done() -> bool:
            nonlocal said
            code, said = await self.temporal(
                *("worker", "deployment", "set-current-version", "--yes", "--command-timeout", "60s"),
                *("--deployment-name", DEPLOYMENT, "--build-id", build),
            )
            return code == 0

        try:
            await eventually(done, within=150)
        except AssertionError:
            raise AssertionError(said) from None

    async def _start(self, name: str, module: list[str], like: str, settings: Mapping[str, str]) -> Process:
        process = await start_process(
            name,
            [sys.executable, "-P", "-m", *module],
            log=self.directory / f"{name}.log",
            env={**self._environment(like), **settings},
        )
        self.processes.append(process)
        return process

    def _environment(self, like: str) -> dict[str, str]:
        """That of one of the stack's processes, in which tests can be imported, too."""
        return {**psutil.Process(self.stack.part(like).pid).environ(), "PYTHONPATH": str(ROOT)}
