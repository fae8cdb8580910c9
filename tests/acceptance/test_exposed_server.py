"""Servers and workers that other machines would reach, as processes; and what they need to run at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.postgres import SUPERUSER, EmbeddedPostgres
from tests.acceptance.command_line import CommandLine
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
NOBODY = 65534
KEY = "cb1e1d1f63b26b8c47c8"
TOKEN = "9f0a46b7d2e35c8890aa"
ABROAD = {
    "ORCHESTRATOR_GRPC_HOST": "0.0.0.0",
    "ORCHESTRATOR_HTTP_HOST": "0.0.0.0",
    "ORCHESTRATOR_GRPC_PORT": "0",
    "ORCHESTRATOR_HTTP_PORT": "0",
    "ORCHESTRATOR_API_KEY": KEY,
}


async def test_a_server_for_others_names_all_that_is_open_and_does_not_start(database: str) -> None:
    run = CommandLine(environment=ABROAD | {"DATABASE_URL": database, "ORCHESTRATOR_REFLECTION": "true"})

    refused = await run("serve")

    assert refused.code == 2
    said = [line for line in refused.err.splitlines() if not line.startswith("{")]
    assert [line.split(":")[0] for line in said[1:]] == ["- plaintext", "- metrics", "- reflection"]
    assert said[0].endswith("ORCHESTRATOR_ACCEPTED_EXPOSURES=metrics,plaintext,reflection")
    assert KEY not in refused.err


async def test_a_superuser_does_not_serve_others(postgres: EmbeddedPostgres, database: str) -> None:
    name = urlsplit(database).path.lstrip("/")
    run = CommandLine(
        environment=ABROAD
        | {
            "DATABASE_URL": postgres.dsn(name, user=SUPERUSER),
            "ORCHESTRATOR_ACCEPTED_EXPOSURES": "plaintext,metrics",
        }
    )

    refused = await run("serve")

    assert refused.code == 2
    assert "- superuser: " in refused.err
    assert "CREATE ROLE orchestrator LOGIN CREATEROLE" in refused.err


async def test_a_worker_whose_metrics_others_reach_does_not_start_unless_that_was_accepted(database: str) -> None:
    (port,) = free_ports(1)
    environment = {
        "DATABASE_URL": database,
        "ORCHESTRATOR_WORKER_METRICS_HOST": "0.0.0.0",
        "ORCHESTRATOR_WORKER_METRICS_PORT": str(port),
    }

    refused = await CommandLine(environment=environment)("worker")

    assert refused.code == 2
    assert refused.err.splitlines()[1].startswith("- metrics: ")


async def test_what_was_accepted_is_told_at_the_start_and_metrics_ask_for_their_token(database: str) -> None:
    grpc, http = free_ports(2)
    environment = ABROAD | {
        "DATABASE_URL": database,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "ORCHESTRATOR_GRPC_PORT": str(grpc),
        "ORCHESTRATOR_HTTP_PORT": str(http),
        "ORCHESTRATOR_METRICS_TOKEN": TOKEN,
        "ORCHESTRATOR_ACCEPTED_EXPOSURES": "plaintext",
    }
    async with process([sys.executable, "-m", "orchestrator.cli", "serve"], environment) as server:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http}") as client:
            await serving(client, server)
            answers = [
                await client.get("/metrics", headers=headers)
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {KEY}"})
            ]
            good = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        said = await stopped(server)

    assert [answer.status_code for answer in answers] == [401] * 3
    assert all(answer.headers["WWW-Authenticate"] == "Bearer" for answer in answers)
    assert "orchestrator_server_ready 1.0" in good.text
    (told,) = [line for line in said.splitlines() if "open to other machines" in line]
    assert json.loads(told)["level"] == "warning"
    assert "accepted (plaintext): Without TLS" in told
    assert TOKEN not in said


def cannot_become_nobody() -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return True
    return subprocess.run(read_only(["true"]), capture_output=True, check=False).returncode != 0


@pytest.mark.skipif("cannot_become_nobody()", reason="only root may become somebody else, and mount")
async def test_a_server_starts_as_nobody_where_nothing_can_be_written(database: str) -> None:
    grpc, http = free_ports(2)
    async with reached_by_network(database) as reachable:
        environment = {
            "DATABASE_URL": reachable,
            "TEMPORAL_ADDRESS": "127.0.0.1:1",
            "ORCHESTRATOR_API_KEY": KEY,
            "ORCHESTRATOR_GRPC_PORT": str(grpc),
            "ORCHESTRATOR_HTTP_PORT": str(http),
            "HOME": "/nonexistent",
        }
        async with process(read_only([sys.executable, "-m", "orchestrator.cli", "serve"]), environment) as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http}") as client:
                await serving(client, server)
                answer = await client.put(
                    "/v1/subjects/ada", headers={"Authorization": f"Bearer {KEY}"}, json={"attributes": {"plan": "pro"}}
                )
            said = await stopped(server)
        could_write = await asyncio.create_subprocess_exec(
            *read_only([sys.executable, "-c", f"open({str(ROOT / 'src' / 'written')!r}, 'w')"]), stderr=PIPE
        )
        _, why_not = await could_write.communicate()

    assert answer.status_code == 200, said
    assert could_write.returncode != 0
    assert b"Read-only file system" in why_not or b"Permission denied" in why_not


@pytest.mark.skipif("cannot_become_nobody()", reason="only root may become somebody else, and mount")
async def test_so_does_a_worker(database: str, temporal_address: str, temporal_namespace: str) -> None:
    (port,) = free_ports(1)
    async with reached_by_network(database) as reachable:
        environment = {
            "DATABASE_URL": reachable,
            "TEMPORAL_ADDRESS": temporal_address,
            "TEMPORAL_NAMESPACE": temporal_namespace,
            "ORCHESTRATOR_WORKER_METRICS_PORT": str(port),
            "HOME": "/nonexistent",
        }
        async with process(read_only([sys.executable, "-P", "-m", "workers.main"]), environment) as worker:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

                async def works() -> bool:
                    assert worker.returncode is None
                    with contextlib.suppress(httpx.TransportError):
                        return "orchestrator_inbox_subjects_total" in (await client.get("/metrics")).text
                    return False

                await eventually(works, within=60)
            said = await stopped(worker)

    assert '"level":"error"' not in said.replace(" ", "")


def read_only(command: list[str]) -> list[str]:
    """The command as a user who owns nothing, with no capability but to read, in a file system that is read-only."""
    becoming = [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
        # Whose interpreter this is, and whether others may look into its directories, is the machine's affair.
        "--bounding-set=-all,+dac_read_search", "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search",
        "--", *command,
    ]  # fmt: skip
    script = 'mount --make-rprivate / && mount -o remount,bind,ro / && cd / && exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *becoming]


@asynccontextmanager
async def reached_by_network(dsn: str) -> AsyncIterator[str]:
    """The database over TCP, as in a container: its socket stands in a directory of its user's alone."""
    query = parse_qs(urlsplit(dsn).query)
    socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(socket)
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await source.read(1 << 16):
                target.write(part)
                await target.drain()
        target.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    parts = urlsplit(dsn)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
    finally:
        server.close()


@asynccontextmanager
async def process(command: list[str], environment: dict[str, str]) -> AsyncIterator[Process]:
    foreign = ("ORCHESTRATOR_", "DATABASE_", "TEMPORAL_", "PG")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    started = await asyncio.create_subprocess_exec(*command, stderr=PIPE, env=inherited | environment)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def serving(client: httpx.AsyncClient, server: Process) -> None:
    async def ready() -> bool:
        if server.returncode is not None:
            assert server.stderr is not None
            raise RuntimeError((await server.stderr.read()).decode())
        with contextlib.suppress(httpx.TransportError):
            return (await client.get("/readyz")).status_code == 200
        return False

    await eventually(ready, within=60)


async def stopped(server: Process) -> str:
    """What it has said, once it has ended as it should."""
    server.send_signal(signal.SIGTERM)
    _, said = await server.communicate()
    assert server.returncode == 0, said.decode()
    return said.decode()
