"""The server process: gRPC and HTTP over one pipeline. Wired here, by constructors alone; it reads top to bottom."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from orchestrator import exposure, otlp
from orchestrator.api import methods as rpcs
from orchestrator.api import openapi
from orchestrator.api.adaptive_limit import AdaptiveLimit
from orchestrator.api.adaptive_places import AdaptivePlaces
from orchestrator.api.admission_control import Admission, Bounds
from orchestrator.api.auth import Authentication
from orchestrator.api.client_certificates import AllowedClients
from orchestrator.api.documented.calls import DocumentedCalls
from orchestrator.api.documented.rows import INTERNAL_ROWS, ROWS
from orchestrator.api.grpc_server import GrpcServer
from orchestrator.api.handlers.api_keys import ApiKeyHandlers
from orchestrator.api.handlers.audiences import AudienceHandlers
from orchestrator.api.handlers.audit import AuditHandlers
from orchestrator.api.handlers.bundles import BundleHandlers
from orchestrator.api.handlers.communications import CommunicationHandlers
from orchestrator.api.handlers.deliveries import DeliveryHandlers
from orchestrator.api.handlers.enrollment_jobs import EnrollmentJobHandlers
from orchestrator.api.handlers.erasures import ErasureHandlers
from orchestrator.api.handlers.events import EventHandlers
from orchestrator.api.handlers.executions import ExecutionHandlers
from orchestrator.api.handlers.impact import ImpactHandlers
from orchestrator.api.handlers.internal import InternalHandlers
from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.api.handlers.pinpoint import PinpointHandlers
from orchestrator.api.handlers.projects import ProjectHandlers
from orchestrator.api.handlers.refused_entries import RefusedEntryHandlers
from orchestrator.api.handlers.segments import SegmentHandlers
from orchestrator.api.handlers.sends_pauses import SendsPauseHandlers
from orchestrator.api.handlers.subjects import SubjectHandlers
from orchestrator.api.handlers.trigger_contracts import TriggerContractHandlers
from orchestrator.api.health import Health
from orchestrator.api.http_arrivals import HttpArrivals
from orchestrator.api.http_calls import HttpCalls
from orchestrator.api.http_server import HttpServer, application, internal_application
from orchestrator.api.methods import Method
from orchestrator.api.metrics import CallMetrics, LoadMetrics, StateMetrics
from orchestrator.api.pipeline import Pipeline
from orchestrator.api.policy import POLICY
from orchestrator.api.pulse import Pulse, postgres_answers
from orchestrator.api.routes import Routes, bindings_of
from orchestrator.api.tls import TlsFiles
from orchestrator.api.unsubscribe_page import UnsubscribePage
from orchestrator.application.api_keys import ApiKeys
from orchestrator.application.communications import Communications
from orchestrator.application.deliveries import Deliveries
from orchestrator.application.dispatching import AT_ONCE, Dispatching
from orchestrator.application.executions import Executions
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.ingest import Ingest
from orchestrator.application.previews import Previews
from orchestrator.application.prompt_relay import PromptRelay
from orchestrator.application.sent_tests import SentTests
from orchestrator.application.setup import Setup
from orchestrator.application.transactions import Transactions
from orchestrator.application.unsubscribing import Unsubscribing
from orchestrator.application.versions import Versions
from orchestrator.domain.channels import Rules
from orchestrator.domain.scope import INSTANCE, Role
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks
from orchestrator.exposure.kinds import Exposure
from orchestrator.exposure.listeners import SERVER
from orchestrator.settings import STRONG_KEY, InvalidSettings, Settings
from orchestrator.storage.instance import read_secret
from orchestrator.storage.migrations import SchemaRefused, missing_migrations
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, Places, open_pool
from orchestrator.storage.reachability import open_connection, reached
from orchestrator.storage.rights import is_superuser, require_rights
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.keyring import Keyring
from orchestrator.temporal.statuses import Statuses

if TYPE_CHECKING:
    from pydantic import SecretStr
    from temporalio.client import Client

logger = logging.getLogger(__name__)


#: What traces call this process.
SERVICE = "orchestrator-server"

#: Connections for telling Temporal what was decided here, and for working through the inbox when somebody says so.
RELAY_POOL = 4 + AT_ONCE
#: Connections that are kept for critical calls, and for looking up keys.
CRITICAL_POOL = 2

#: Calls under way from which on cores may be short.
BUSY_CALLS = 4


class CannotServe(Exception):
    """The server cannot start. The message is one sentence for an operator: why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What handlers are made of."""

    transactions: Transactions
    instance_secret: bytes
    temporal: Client
    relay: PromptRelay
    dispatching: Dispatching
    versions: Versions
    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A running server: the ports it got, and how it is. Internal ones are None where it has none of its own."""

    grpc_port: int
    http_port: int
    health: Health
    internal_grpc_port: int | None = None
    internal_http_port: int | None = None


def handlers(parts: Parts) -> list[object]:
    """Every class that serves RPCs. An RPC that is served by none keeps the server from starting."""
    api_keys = ApiKeys(parts.instance_secret)
    bell = InboxBell(parts.transactions)
    versions = parts.versions
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
        ErasureHandlers(parts.instance_secret),
        EventHandlers(ingest, bell),
        ExecutionHandlers(Executions(Statuses(parts.temporal)), versions, parts.relay.tell),
        ImpactHandlers(),
        InternalHandlers(parts.dispatching, bell, versions, parts.relay.tell),
        JourneyHandlers(versions, parts.relay.tell),
        PinpointHandlers(parts.rules),
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
            # What is there by now stays. Looked through each time that Python looks for garbage, which a large request
            # makes it do, it cost whoever waits a tenth of a second.
            gc.collect()
            gc.freeze()
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
    if settings.internal_listener and settings.internal_token is None:
        raise InvalidSettings("ORCHESTRATOR_INTERNAL_GRPC_PORT and _HTTP_PORT need ORCHESTRATOR_INTERNAL_TOKEN.")
    tell(exposure.check(settings, SERVER, environment=os.environ))
    for variable in settings.short_keys:
        logger.warning("%s has fewer than %d characters and can be guessed", variable, STRONG_KEY)
    with reached(settings.database_url):
        user_is_superuser = await _require_database(settings.database_url)
    tell(exposure.check_database_user(settings, SERVER, is_superuser=user_is_superuser))
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(otlp.recording(settings.otlp_endpoint, settings.otlp_protocol, service=SERVICE))
        except otlp.PackagesMissing as missing:
            raise CannotServe(str(missing)) from None
        places = Places(settings.pool_size)
        with reached(settings.database_url):
            pool = await open_pool(
                settings.database_url,
                role=API_ROLE,
                size=settings.pool_size + CRITICAL_POOL,
                application_name="orchestrator-server",
            )
            stack.push_async_callback(pool.close)
            pulse_pool = await open_pool(
                settings.database_url, role=API_ROLE, size=1, application_name="orchestrator-pulse"
            )
            stack.push_async_callback(pulse_pool.close)
            transactions = Transactions(pool, places)
            async with transactions.read(INSTANCE) as conn:
                instance_secret = await read_secret(conn)
            await Setup(transactions, ApiKeys(instance_secret)).prepare(owner_key=_text(settings.api_key))

        target = Target(address=settings.temporal_address or "", namespace=settings.temporal_namespace)
        temporal = await connect(target, keyring=Keyring.of(settings.payload_key_texts), lazy=True)
        # The outbox belongs to the workers' role.
        with reached(settings.database_url):
            outbox_pool = await open_pool(
                settings.database_url, role=WORKER_ROLE, size=RELAY_POOL, application_name="orchestrator-delivery"
            )
        stack.push_async_callback(outbox_pool.close)
        relay_places = Places(RELAY_POOL)
        outbox = Transactions(outbox_pool, relay_places)
        relay = PromptRelay(outbox, temporal)
        versions = Versions()
        dispatching = Dispatching(outbox, versions, relay.tell)
        stack.push_async_callback(dispatching.close)
        parts = Parts(
            transactions=transactions,
            instance_secret=instance_secret,
            temporal=temporal,
            relay=relay,
            dispatching=dispatching,
            versions=versions,
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
            internal_tokens=map(_revealed, settings.internal_tokens),
            wrong_keys_per_minute=settings.wrong_keys_per_minute,
        )
        stack.push_async_callback(authentication.close)
        limit = AdaptiveLimit(least=2 * settings.pool_size, most=settings.max_calls)
        load = LoadMetrics(registry, lambda: limit.calls)
        admission = Admission(
            Bounds(
                calls=settings.max_calls,
                calls_of_key=settings.max_calls_per_key,
                # Each may hold a connection for seconds.
                heavy=settings.pool_size // 2,
                per_second=settings.calls_per_second,
            ),
            limit=limit,
            shed=load.shed,
        )
        at_work = AdaptivePlaces(places)
        pulse = Pulse(
            partial(postgres_answers, pulse_pool),
            # Whether it is over as well: who looks only while much is under way sees nothing else.
            is_wanted=lambda: at_work.are_fewer or admission.inside >= BUSY_CALLS,
        )
        pipeline = Pipeline(
            authentication=authentication,
            transactions=transactions,
            metrics=CallMetrics(registry, methods.values()),
            admission=admission,
            clients=AllowedClients(settings.tls_client_names),
        )
        stack.push_async_callback(pipeline.close, settings.grace_seconds)
        services = sorted({method.service for method in methods.values()})
        health = Health(settings.database_url, services, temporal_answers=lambda: _answers(temporal))
        outside, rows = methods, ROWS
        if settings.internal_listener:
            outside = rpcs.open_to(methods, frozenset(Role) - {Role.INTERNAL})
            rows = tuple(row for row in ROWS if not row.internal)

        def grpc_server(served: Mapping[str, Method]) -> GrpcServer:
            return GrpcServer(
                pipeline,
                served,
                health_servicer=health.servicer,
                max_calls=2 * settings.max_calls,
                with_reflection=settings.reflection,
            )

        arrivals = HttpArrivals(pipeline, settings.allowed_origins)
        StateMetrics(registry, lambda: health.state, {"calls": places, "delivery": relay_places})
        contract = openapi.document_path().read_bytes()
        links = UnsubscribeLinks.of(map(_revealed, settings.unsubscribe_secrets), instance_secret, settings.public_url)
        http_server = HttpServer(
            application(
                HttpCalls(arrivals, Routes(bindings_of(outside.values()))),
                DocumentedCalls(arrivals, outside, rows),
                allowed_origins=settings.allowed_origins,
                state=lambda: health.state,
                registry=registry,
                metrics_token=_text(settings.metrics_token),
                openapi=contract,
                unsubscribe=UnsubscribePage(Unsubscribing(transactions, links)),
            )
        )

        stack.callback(health.close)
        await health.look()
        tls = tls_files(settings)
        listeners = [
            Listener(grpc_server(outside), "GRPC", "GRPC_HOST", settings.grpc_host, settings.grpc_port),
            Listener(http_server, "HTTP", "HTTP_HOST", settings.http_host, settings.http_port),
        ]
        inside, host = rpcs.open_to(methods, {Role.INTERNAL}), settings.internal_host
        if (port := settings.internal_grpc_port) is not None:
            listeners.append(Listener(grpc_server(inside), "INTERNAL_GRPC", "INTERNAL_HOST", host, port))
        if (port := settings.internal_http_port) is not None:
            theirs = HttpArrivals(pipeline, ())
            internal_server = HttpServer(
                internal_application(
                    HttpCalls(theirs, Routes(bindings_of(inside.values()))),
                    DocumentedCalls(theirs, inside, INTERNAL_ROWS),
                    state=lambda: health.state,
                )
            )
            listeners.append(Listener(internal_server, "INTERNAL_HTTP", "INTERNAL_HOST", host, port))
        stack.push_async_callback(_stop, listeners, settings.grace_seconds)
        ports = {listener.name: await listener.listen(tls) for listener in listeners}
        for watching in (
            health.watch(),
            pulse.watch(),
            at_work.watch(pulse.lateness),
            limit.watch(places.shortest_wait, load.lag),
        ):
            stack.push_async_callback(_ended, asyncio.create_task(watching))
        try:
            yield Listening(
                grpc_port=ports["GRPC"],
                http_port=ports["HTTP"],
                health=health,
                internal_grpc_port=ports.get("INTERNAL_GRPC"),
                internal_http_port=ports.get("INTERNAL_HTTP"),
            )
        finally:
            await health.drain()
            await asyncio.sleep(settings.drain_seconds)


def tell(exposures: Iterable[Exposure]) -> None:
    """Loudly, for whoever accepted it may have forgotten, or may not be the one who reads this."""
    for accepted in exposures:
        logger.warning("open to other machines, as was accepted (%s): %s", accepted.kind, accepted.said)


async def _require_database(dsn: str) -> bool:
    """Raises what there is to say of a database that cannot be worked with. Is its user a superuser?"""
    conn = await open_connection(dsn)
    try:
        await require_rights(conn)
        missing = await missing_migrations(conn)
        user_is_superuser = await is_superuser(conn)
    finally:
        await conn.close()
    if missing:
        raise SchemaRefused(f"The database lacks {len(missing)} migrations: run `orchestrator migrate` first.")
    return user_is_superuser


@dataclass(frozen=True, slots=True)
class Listener:
    """A server and where it is to listen; `name` and `host_name` are those of the settings that say so."""

    server: GrpcServer | HttpServer
    name: str
    host_name: str
    host: str
    port: int

    async def listen(self, tls: TlsFiles | None) -> int:
        """Returns the port. Raises CannotServe."""
        host, port = self.host, self.port
        try:
            # Tried before, for gRPC's own words about it say less, and go to stderr.
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, port), family=family).close()
            return await self.server.start(host, port, tls)
        except OSError as error:
            # Resolvers have numbers below zero, and words of their own.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            transport = "HTTP" if isinstance(self.server, HttpServer) else "gRPC"
            raise CannotServe(
                f"{transport} cannot listen on {host}:{port} ({why.lower()}): free it, or set "
                f"ORCHESTRATOR_{self.name}_PORT, or ORCHESTRATOR_{self.host_name} to an address of this machine."
            ) from error


async def _stop(listeners: Iterable[Listener], grace: float) -> None:
    await asyncio.gather(*(listener.server.stop(grace) for listener in listeners))


async def _answers(temporal: Client) -> bool:
    try:
        return await temporal.service_client.check_health()
    except Exception:
        # Lazy clients raise RuntimeError when they cannot connect, connected ones RPCError.
        return False


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def tls_files(settings: Settings) -> TlsFiles | None:
    """What the settings say of TLS. Raises CannotServe for files that cannot be used."""
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
