"""The services of subjects and events over gRPC, as the server has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio
from grpc_health.v1 import health
from prometheus_client import CollectorRegistry

from orchestrator.api.auth import Authentication
from orchestrator.api.grpc_server import GrpcServer
from orchestrator.api.handlers.events import EventHandlers
from orchestrator.api.handlers.subjects import SubjectHandlers
from orchestrator.api.limits import InFlightLimit
from orchestrator.api.methods import services, table
from orchestrator.api.metrics import CallMetrics
from orchestrator.api.pipeline import Pipeline
from orchestrator.api.policy import POLICY
from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.ingest import Ingest
from orchestrator.application.transactions import Transactions
from orchestrator.domain.scope import Role
from tests.integration.projects import make_project

if TYPE_CHECKING:
    from asyncpg import Pool, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """`secret` is the instance's."""

    channel: grpc.aio.Channel
    key: str
    secret: bytes
    project_no: int

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"),)


@asynccontextmanager
async def serving(api_pool: Pool[Record]) -> AsyncIterator[Served]:
    """Serve a new project, with an admin's key of it."""
    transactions = Transactions(api_pool)
    scope = await make_project(api_pool)
    secret: bytes = await api_pool.fetchval("SELECT secret FROM instance")
    async with transactions.write(scope.project_no) as conn:
        made = await ApiKeys(secret).create(conn, scope, name="test", role=Role.ADMIN, expires_at=None)
    bell = InboxBell(transactions)
    names = {"SubjectService", "EventService"}
    methods = table(
        [service for service in services() if service.name in names],
        {name: rule for name, rule in POLICY.items() if name.split("/")[0].rpartition(".")[2] in names},
        [SubjectHandlers(secret, bell), EventHandlers(Ingest(transactions), bell)],
    )
    authentication = Authentication(transactions, secret)
    pipeline = Pipeline(
        authentication=authentication,
        transactions=transactions,
        metrics=CallMetrics(CollectorRegistry(), methods.values()),
        limit=InFlightLimit(64),
    )
    server = GrpcServer(
        pipeline,
        methods,
        health_servicer=health.aio.HealthServicer(),
        max_calls=100,
        with_reflection=False,
    )
    port = await server.start("127.0.0.1", 0, None)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(channel=channel, key=made.secret, secret=secret, project_no=scope.project_no)
    finally:
        await server.stop(1)
        await pipeline.close()
        await authentication.close()
