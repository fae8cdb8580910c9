"""The whole product as processes, two servers and two workers, Postgres and Temporal its own, and a proxy on each way
from one of them to another.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from orchestrator.devstack.ports import LOOPBACK, free_ports
from orchestrator.devstack.postgres import DATABASE, OWNER
from orchestrator.devstack.processes import Process
from orchestrator.devstack.stack import POSTGRES, SERVER, TEMPORAL, Stack, StackOptions, worker_name
from tests.faults.nemesis.proxy import Proxy, Upstream
from tests.faults.second_server import SECOND_SERVER, begin_second_server

SERVERS = (SERVER, SECOND_SERVER)
WORKERS = (worker_name(1), worker_name(2))

CLIENT, PROVIDER, ANY_WORKER = "client", "provider", "workers"

_GRACE = 30.0


def edge(one: str, other: str) -> str:
    """The name of the way from one part, which asks, to another."""
    return f"{one} > {other}"


#: Every way on which something is asked for. Both workers call the provider by one address.
EDGES = (
    *(edge(CLIENT, server) for server in SERVERS),
    *(edge(part, other) for part in (*SERVERS, *WORKERS) for other in (POSTGRES, TEMPORAL)),
    edge(ANY_WORKER, PROVIDER),
)


class ProxiedStack(Stack):
    """A stack whose parts reach each other through `edges`, by their names. Postgres keeps what it has acknowledged."""

    def __init__(self, options: StackOptions) -> None:
        super().__init__(replace(options, workers=len(WORKERS), durable=True, database_url="", temporal_address=""))
        self.edges: dict[str, Proxy] = {}
        self._second_ports = free_ports(2)
        self._environment_of_servers: dict[str, str] = {}

    async def __aenter__(self) -> ProxiedStack:
        await super().__aenter__()
        try:
            self._environment_of_servers = psutil.Process(self.part(SERVER).pid).environ()
            await self._keep(SECOND_SERVER, self._begin_second_server, grace=_GRACE)
            await self.open_edge(edge(CLIENT, SERVER), (LOOPBACK, self._options.http_port))
            await self.open_edge(edge(CLIENT, SECOND_SERVER), (LOOPBACK, self._second_ports[1]))
        except BaseException:
            await self._stop()
            raise
        return self

    @property
    def doors(self) -> tuple[str, ...]:
        """Where clients reach the servers by HTTP."""
        return tuple(f"http://{LOOPBACK}:{self.edges[edge(CLIENT, server)].port}" for server in SERVERS)

    async def open_edge(self, name: str, upstream: Upstream) -> Proxy:
        """The proxy of this way; the one that there is, if there is one."""
        if name not in self.edges:
            self.edges[name] = await Proxy(upstream).__aenter__()
        return self.edges[name]

    async def _start_ours(self, name: str, module: list[str], settings: dict[str, str]) -> Process:
        return await super()._start_ours(name, module, settings | await self._ways(name))

    async def _ways(self, name: str) -> dict[str, str]:
        """Where this part is told that Postgres and Temporal are."""
        (directory,) = parse_qs(urlsplit(self._dsn).query)["host"]
        postgres = await self.open_edge(edge(name, POSTGRES), Path(directory) / ".s.PGSQL.5432")
        host, _, port = self._temporal.rpartition(":")
        temporal = await self.open_edge(edge(name, TEMPORAL), (host, int(port)))
        return {
            "DATABASE_URL": f"postgresql://{OWNER}@{LOOPBACK}:{postgres.port}/{DATABASE}?sslmode=disable",
            "TEMPORAL_ADDRESS": f"{LOOPBACK}:{temporal.port}",
        }

    async def _begin_second_server(self) -> Process:
        grpc, http = self._second_ports
        environment = self._environment_of_servers | await self._ways(SECOND_SERVER)
        return await begin_second_server(environment, self._data.log(SECOND_SERVER), grpc=grpc, http=http)

    async def _stop(self) -> None:
        try:
            await super()._stop()
        finally:
            for proxy in self.edges.values():
                await proxy.__aexit__(None, None, None)
            self.edges.clear()
