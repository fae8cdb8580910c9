"""A whole server for each test, on free ports, and callers for both of its transports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest

from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.transactions import Transactions
from orchestrator.domain.scope import Role
from orchestrator.server import Listening, running
from orchestrator.settings import Settings
from orchestrator.storage.instance import read_secret
from tests.integration.api.callers import Caller, GrpcCaller, HttpCaller

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

OWNER_KEY = "owner-key-of-a-test"
OPERATOR_KEY = "operator-key-of-a-test"
INTERNAL_TOKEN = "internal-token-of-a-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server, and who calls it as the owner of the project `default`."""

    listening: Listening
    grpc: GrpcCaller
    http: HttpCaller

    @property
    def callers(self) -> tuple[Caller, Caller]:
        return self.grpc, self.http


Serve = Callable[..., AbstractAsyncContextManager[Served]]


def settings_of(database: str, **further: Any) -> Settings:
    """A server that nobody else can meet: free ports, no Temporal."""
    return Settings(
        **{
            "database_url": database,
            "temporal_address": "127.0.0.1:1",
            "api_key": OWNER_KEY,
            "operator_key": OPERATOR_KEY,
            "internal_token": INTERNAL_TOKEN,
            "grpc_port": 0,
            "http_port": 0,
            "pool_size": 8,
            **further,
        }
    )


@pytest.fixture
def serve(database: str) -> Serve:
    """Runs a server on the test's database; takes settings by name."""

    @asynccontextmanager
    async def serving(**further: Any) -> AsyncIterator[Served]:
        async with running(settings_of(database, **further)) as listening:
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{listening.grpc_port}") as channel,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.http_port}", timeout=30) as client,
            ):
                yield Served(
                    listening=listening, grpc=GrpcCaller(channel, OWNER_KEY), http=HttpCaller(client, OWNER_KEY)
                )

    return serving


@pytest.fixture
async def served(serve: Serve) -> AsyncIterator[Served]:
    """A server with the settings of `settings_of`."""
    async with serve() as server:
        yield server


@pytest.fixture(params=["grpc", "http"])
def caller(request: pytest.FixtureRequest, served: Served) -> Caller:
    """Either transport: what holds for one holds for the other."""
    return served.grpc if request.param == "grpc" else served.http


@dataclass(frozen=True, slots=True)
class Keys:
    """Makes keys of any role and project, as no API could."""

    owner: Connection[Record]
    transactions: Transactions
    secret: bytes

    async def admit(self, role: Role, project_no: int = 1) -> str:
        """A key of this role in this project; the same each time."""
        key = f"{role.name.lower()}-key-in-project-{project_no}"
        async with self.transactions.write(0) as conn:
            await ApiKeys(self.secret).admit(conn, project_no, key=key, name=key, role=role)
        return key

    async def project(self, project_id: str) -> int:
        """The number of a new project."""
        number: int = await self.owner.fetchval(
            "INSERT INTO projects (project_id, name, created_at, updated_at) "
            "VALUES ($1, $1, clock_timestamp(), clock_timestamp()) RETURNING project_no",
            project_id,
        )
        return number


@pytest.fixture
async def keys(owner: Connection[Record], api_pool: Pool[Record]) -> Keys:
    transactions = Transactions(api_pool)
    async with transactions.read(0) as conn:
        return Keys(owner, transactions, await read_secret(conn))
