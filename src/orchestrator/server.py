"""The server process: gRPC and HTTP over one pipeline. Wired here, by constructors alone; it reads top to bottom."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from orchestrator.api import methods as rpcs
from orchestrator.api import openapi
from orchestrator.api.auth import Authentication
from orchestrator.api.documented.calls import DocumentedCalls
from orchestrator.api.grpc_server import GrpcServer
from orchestrator.api.handlers.api_keys import ApiKeyHandlers
from orchestrator.api.handlers.audiences import AudienceHandlers
from orchestrator.api.handlers.audit import AuditHandlers
from orchestrator.api.handlers.bundles import BundleHandlers
from orchestrator.api.handlers.communications import CommunicationHandlers
from orchestrator.api.handlers.deliveries import DeliveryHandlers
from orchestrator.api.handlers.enrollment_jobs import EnrollmentJobHandlers
from orchestrator.api.handlers.events import EventHandlers
from orchestrator.api.handlers.executions import ExecutionHandlers
from orchestrator.api.handlers.impact import ImpactHandlers
from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.api.handlers.projects import ProjectHandlers
from orchestrator.api.handlers.refused_entries import RefusedEntryHandlers
from orchestrator.api.handlers.segments import SegmentHandlers
from orchestrator.api.handlers.sends_pauses import SendsPauseHandlers
from orchestrator.api.handlers.subjects import SubjectHandlers
from orchestrator.api.handlers.trigger_contracts import TriggerContractHandlers
from orchestrator.api.health import Health
from orchestrator.api.http_arrivals import HttpArrivals
from orchestrator.api.http_calls import HttpCalls
from orchestrator.api.http_server import HttpServer, application
from orchestrator.api.limits import InFlightLimit
from orchestrator.api.metrics import CallMetrics
from orchestrator.api.pipeline import Pipeline
from orchestrator.api.policy import POLICY
from orchestrator.api.routes import Routes, bindings_of
from orchestrator.api.tls import TlsFiles
from orchestrator.api.unsubscribe_page import UnsubscribePage
from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.communications import Communications
from orchestrator.application.deliveries import Deliveries
from orchestrator.application.executions import Executions
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.ingest import Ingest
from orchestrator.application.previews import Previews
from orchestrator.application.prompt_delivery import PromptDelivery
from orchestrator.application.sent_tests import SentTests
from orchestrator.application.setup import Setup
from orchestrator.application.transactions import Transactions
from orchestrator.application.unsubscribing import Unsubscribing
from orchestrator.application.versions import Versions
from orchestrator.domain.channels import Rules
from orchestrator.domain.scope import INSTANCE
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks
from orchestrator.settings import STRONG_KEY, InvalidSettings, Settings
from orchestrator.storage.instance import read_secret
from orchestrator.storage.migrations import SchemaRefused, missing_migrations
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from orchestrator.storage.reachability import open_connection
from orchestrator.storage.rights import require_rights
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.statuses import Statuses

if TYPE_CHECKING:
    from pydantic import SecretStr
    from temporalio.client import Client

logger = logging.getLogger(__name__)


#: Connections for telling Temporal what was decided here.
DELIVERY_POOL = 4


class CannotServe(Exception):
    """The server cannot start. The message is one sentence for an operator: why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What handlers are made of."""

    transactions: Transactions
    instance_secret: bytes
    temporal: Client
    delivery: PromptDelivery
    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A running server: the ports it got, and how it is."""

    grpc_port: int
    http_port: int
    health: Health


def handlers(parts: Parts) -> list[object]:
    """Every class that serves RPCs. An RPC that is served by none keeps the server from starting."""
    api_keys = ApiKeys(parts.instance_secret)
    bell = InboxBell(parts.transactions)
    versions = Versions()
    ingest = Ingest(parts.transactions)
    previews = Previews(parts.rules)
    communications = Communications(parts.rules)
    return [
        ApiKeyHandlers(api_keys),
        AudienceHandlers(versions.rule_book),
        AuditHandlers(),
        BundleHandlers(communications),
        CommunicationHandlers(communications, previews, SentTests(previews, parts.rules, parts.instance_secret)),
        DeliveryHandlers(Deliveries(parts.transactions, ingest, versions, parts.instance_secret), bell),
        EnrollmentJobHandlers(),
        EventHandlers(ingest, bell),
        ExecutionHandlers(Executions(Statuses(parts.temporal)), versions, parts.delivery.deliver),
        ImpactHandlers(),
        JourneyHandlers(versions, parts.delivery.deliver),
        ProjectHandlers(api_keys),
        RefusedEntryHandlers(versions),
        SegmentHandlers(bell, versions.rule_book),
        SubjectHandlers(parts.instance_secret, bell, versions.rule_book),
        SendsPauseHandlers(),
        TriggerContractHandlers(),
    ]


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises CannotServe, DatabaseUnreachable, RightsMissing, SchemaRefused or InvalidSettings.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(settings) as server:
            logger.info("serving", extra={"grpc_port": server.grpc_port, "http_port": server.http_port})
            await stop.wait()
            logger.info("draining")
    finally:
        logger.info("stopped")
        logging.shutdown()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Listening]:
    """A server in the running loop, as long as the block lasts; at its end calls under way are let finish."""
    if settings.database_url is None:
        raise InvalidSettings("DATABASE_URL is not set: the server needs a database.")
    for variable in settings.short_keys:
        logger.warning("%s has fewer than %d characters and can be guessed", variable, STRONG_KEY)
    await _require_database(settings.database_url)
    async with AsyncExitStack() as stack:
        pool = await open_pool(
            settings.database_url, role=API_ROLE, size=settings.pool_size, application_name="orchestrator-server"
        )
        stack.push_async_callback(pool.close)
        transactions = Transactions(pool)
        async with transactions.read(INSTANCE) as conn:
            instance_secret = await read_secret(conn)
        await Setup(transactions, ApiKeys(instance_secret)).prepare(owner_key=_text(settings.api_key))

        target = Target(address=settings.temporal_address or "", namespace=settings.temporal_namespace)
        temporal = await connect(target, lazy=True)
        # The outbox belongs to the workers' role.
        outbox_pool = await open_pool(
            settings.database_url, role=WORKER_ROLE, size=DELIVERY_POOL, application_name="orchestrator-delivery"
        )
        stack.push_async_callback(outbox_pool.close)
        parts = Parts(
            transactions=transactions,
            instance_secret=instance_secret,
            temporal=temporal,
            delivery=PromptDelivery(Transactions(outbox_pool), temporal),
            rules=Rules(plain_http=settings.webhook_plain_http),
        )
        methods = rpcs.table(rpcs.services(), POLICY, handlers(parts))

        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        authentication = Authentication(
            transactions,
            instance_secret,
            operator_key=_text(settings.operator_key),
            internal_token=_text(settings.internal_token),
            wrong_keys_per_minute=settings.wrong_keys_per_minute,
        )
        stack.push_async_callback(authentication.close)
        pipeline = Pipeline(
            authentication=authentication,
            transactions=transactions,
            metrics=CallMetrics(registry, methods.values()),
            limit=InFlightLimit(settings.max_calls),
        )
        stack.push_async_callback(pipeline.close, settings.grace_seconds)
        services = sorted({method.service for method in methods.values()})
        health = Health(settings.database_url, services, temporal_answers=lambda: _answers(temporal))
        grpc_server = GrpcServer(
            pipeline,
            methods,
            health_servicer=health.servicer,
            max_calls=2 * settings.max_calls,
            with_reflection=settings.reflection,
        )
        arrivals = HttpArrivals(pipeline, settings.allowed_origins)
        contract = openapi.document_path().read_bytes()
        links = UnsubscribeLinks.of(map(_revealed, settings.unsubscribe_secrets), instance_secret, settings.public_url)
        http_server = HttpServer(
            application(
                HttpCalls(arrivals, Routes(bindings_of(methods.values()))),
                DocumentedCalls(arrivals, methods),
                allowed_origins=settings.allowed_origins,
                state=lambda: health.state,
                registry=registry,
                openapi=contract,
                unsubscribe=UnsubscribePage(Unsubscribing(transactions, links)),
            )
        )

        stack.callback(health.close)
        await health.look()
        tls = _tls(settings)
        stack.push_async_callback(_stop, grpc_server, http_server, settings.grace_seconds)
        grpc_port = await _listen(grpc_server, "gRPC", settings.grpc_host, settings.grpc_port, tls)
        http_port = await _listen(http_server, "HTTP", settings.http_host, settings.http_port, tls)
        watch = asyncio.create_task(health.watch(), name="health")
        stack.push_async_callback(_ended, watch)
        try:
            yield Listening(grpc_port=grpc_port, http_port=http_port, health=health)
        finally:
            await health.drain()
            await asyncio.sleep(settings.drain_seconds)


async def _require_database(dsn: str) -> None:
    """Raises what there is to say of a database that cannot be worked with."""
    conn = await open_connection(dsn)
    try:
        await require_rights(conn)
        missing = await missing_migrations(conn)
    finally:
        await conn.close()
    if missing:
        raise SchemaRefused(f"The database lacks {len(missing)} migrations: run `orchestrator migrate` first.")


async def _listen(server: GrpcServer | HttpServer, name: str, host: str, port: int, tls: TlsFiles | None) -> int:
    try:
        # Tried before, for gRPC's own words about it say less, and go to stderr.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
        return await server.start(host, port, tls)
    except OSError as error:
        # Resolvers have numbers below zero, and words of their own.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        prefix = f"ORCHESTRATOR_{name.upper()}"
        raise CannotServe(
            f"{name} cannot listen on {host}:{port} ({why.lower()}): free it, or set {prefix}_PORT, "
            f"or {prefix}_HOST to an address of this machine."
        ) from error


async def _stop(grpc_server: GrpcServer, http_server: HttpServer, grace: float) -> None:
    await asyncio.gather(grpc_server.stop(grace), http_server.stop(grace))


async def _answers(temporal: Client) -> bool:
    try:
        return await temporal.service_client.check_health()
    except Exception:
        # Lazy clients raise RuntimeError when they cannot connect, connected ones RPCError.
        return False


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _tls(settings: Settings) -> TlsFiles | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    files = TlsFiles(certificate=settings.tls_certificate, key=settings.tls_key, client_ca=settings.tls_client_ca)
    try:
        files.read()
    except OSError as error:
        if error.filename is not None:
            raise CannotServe(f"{error.filename} cannot be read: {error.strerror}.") from error
        raise CannotServe(
            f"The files of ORCHESTRATOR_TLS_CERTIFICATE and _KEY (and _CLIENT_CA) do not fit together: {error}."
        ) from error
    return files


def _revealed(secret: SecretStr) -> str:
    return secret.get_secret_value()


def _text(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None
