"""A worker process, `python -m workers.main`: reads the settings, opens the parts, works until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
from temporalio.common import WorkerDeploymentVersion
from temporalio.runtime import Runtime

from orchestrator import exposure, logs, otlp, traces
from orchestrator.application.audit_sealing import Keep
from orchestrator.domain.email_address import parse_mailbox
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks
from orchestrator.exposure.listeners import WORKER
from orchestrator.settings import InvalidSettings, Settings
from orchestrator.storage import anchor_files
from orchestrator.storage.audit_seals import Anchor
from orchestrator.storage.erasure_ledger import ErasureLedger
from orchestrator.storage.instance import read_secret
from orchestrator.storage.pool import WORKER_ROLE, connection, open_pool
from orchestrator.temporal.client import Target, connect, missing_search_attributes, runtime
from orchestrator.temporal.keyring import Keyring
from workers.channels.channel import OnAmbiguity
from workers.channels.registry import Mail, egress_of, open_channels
from workers.channels.rendering import Renderer
from workers.channels.signature import SigningSecrets
from workers.channels.smtp import SmtpServer
from workers.execution_names import ExecutionNames
from workers.process import PartCrashed, Parts, running
from workers.step_calls import StepCalls

if TYPE_CHECKING:
    from asyncpg import Pool, Record

logger = logging.getLogger(__name__)

#: What traces call this process.
SERVICE = "orchestrator-worker"

#: Seconds between two tries to reach a part at the start: whoever started us may be starting it, too.
PAUSE = 0.5

_Part = TypeVar("_Part")


class CannotWork(Exception):
    """The worker cannot start. The message is one sentence for an operator: why, and what to do."""


def main() -> int:
    """Exit status 0 after a stop that was asked for, 2 for settings that cannot be used, 1 when it cannot start or a
    part of it has crashed.
    """
    try:
        settings = _settings()
        names = ExecutionNames()
        logs.configure(settings.log_level, settings.log_format, completing=[names, traces.TraceIds()])
        for accepted in exposure.check(settings, WORKER, environment=os.environ):
            logger.warning("open to other machines, as was accepted (%s): %s", accepted.kind, accepted.said)
        native = _runtime(settings)
        keep = _keeping(settings.audit_anchors)
    except (InvalidSettings, CannotWork) as fault:
        print(fault, file=sys.stderr)  # noqa: T201 - for whoever starts us, and logging may not be configured yet
        return 2 if isinstance(fault, InvalidSettings) else 1
    try:
        with otlp.recording(settings.otlp_endpoint, settings.otlp_protocol, service=SERVICE):
            asyncio.run(_serve(settings, native, names, keep))
    except otlp.PackagesMissing as missing:
        logger.critical("%s", missing)
        return 1
    except PartCrashed:  # the log has said all there is to say
        return 1
    return 0


def _settings() -> Settings:
    settings = Settings.load()
    if settings.database_url is None:
        raise InvalidSettings("DATABASE_URL is not set: a worker needs a database.")
    try:
        SigningSecrets.parse(_webhook_secrets(settings))
    except ValueError as error:
        raise InvalidSettings(f"ORCHESTRATOR_WEBHOOK_SECRETS is not usable: {error}.") from None
    _mail(settings)
    return settings


def _webhook_secrets(settings: Settings) -> list[str]:
    return [secret.get_secret_value() for secret in settings.webhook_secrets]


def _step_calls(settings: Settings) -> StepCalls:
    egress = egress_of(settings.webhook_networks, plain_http=settings.webhook_plain_http)
    return StepCalls(SigningSecrets.parse(_webhook_secrets(settings)), egress)


def _mail(settings: Settings) -> Mail:
    """Raises InvalidSettings."""
    try:
        sender = parse_mailbox(settings.smtp_from) if settings.smtp_from is not None else None
    except ValueError as error:
        raise InvalidSettings(f"ORCHESTRATOR_SMTP_FROM is not usable: it {error}.") from None
    try:
        server = _smtp_server(settings)
    except ValueError as error:
        raise InvalidSettings(f"ORCHESTRATOR_SMTP_URL is not usable: {error}.") from None
    if settings.smtp_ca is not None and not settings.smtp_ca.is_file():
        raise InvalidSettings(f"ORCHESTRATOR_SMTP_CA is not usable: there is no file {settings.smtp_ca}.")
    return Mail(
        server=server,
        sender=sender,
        on_ambiguity=OnAmbiguity(settings.smtp_on_ambiguity),
        connections=settings.smtp_connections,
    )


def _smtp_server(settings: Settings) -> SmtpServer | None:
    """Raises ValueError."""
    if settings.smtp_url is None:
        return None
    return SmtpServer.parse(settings.smtp_url.get_secret_value(), plain=settings.smtp_plain, ca=settings.smtp_ca)


def _runtime(settings: Settings) -> Runtime:
    """Temporal's native part, which serves the metrics."""
    port = settings.worker_metrics_port
    address = f"{settings.worker_metrics_host}:{port}" if port is not None else None
    try:
        return runtime(address)
    except ValueError as error:
        raise CannotWork(
            f"Metrics cannot be served on {address} ({error}): free the port, or set ORCHESTRATOR_WORKER_METRICS_PORT "
            "(and _HOST, an IP address)."
        ) from None


def _keeping(directory: Path | None) -> Keep | None:
    """Writes anchors of the audit log to the directory, if there is one. Raises CannotWork."""
    if directory is None:
        return None
    try:
        anchor_files.prepare(directory)
    except OSError as error:
        raise CannotWork(
            f"Anchors of the audit log cannot be kept in {directory} ({error.strerror}): let the worker write there, "
            "or set ORCHESTRATOR_AUDIT_ANCHORS to another directory."
        ) from None

    async def keep(anchors: Sequence[Anchor]) -> None:
        await asyncio.to_thread(anchor_files.append, directory, anchors)

    return keep


async def _serve(settings: Settings, native: Runtime, names: ExecutionNames, keep: Keep | None) -> None:
    assert settings.database_url is not None
    dsn = settings.database_url
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    target = Target(address=settings.temporal_address or "", namespace=settings.temporal_namespace)
    async with AsyncExitStack() as stack:
        pool = await _reach(
            "postgres",
            stop,
            lambda: open_pool(dsn, role=WORKER_ROLE, size=settings.pool_size, application_name="orchestrator-worker"),
        )
        if pool is None:
            return
        stack.push_async_callback(pool.close)
        instance_secret = await _reach("postgres", stop, lambda: _instance_secret(pool))
        if instance_secret is None:
            return
        keyring = Keyring.of(settings.payload_key_texts)
        client = await _reach("temporal", stop, lambda: connect(target, keyring=keyring, runtime=native))
        if client is None:
            return
        if missing := await missing_search_attributes(client):
            logger.warning("the namespace lacks search attributes, executions cannot be found by them: %s", missing)
        channels = await stack.enter_async_context(
            open_channels(
                pool=pool,
                webhook_secrets=_webhook_secrets(settings),
                allow_private=settings.webhook_networks,
                plain_http=settings.webhook_plain_http,
                mail=_mail(settings),
            )
        )
        parts = Parts(
            dsn=dsn,
            pool=pool,
            client=client,
            channels=channels,
            calls=await stack.enter_async_context(_step_calls(settings)),
            renderer=await stack.enter_async_context(Renderer()),
            meter=native.metric_meter,
            searchable=not missing,
            names=names,
            keep_anchors=keep,
            ledger=ErasureLedger(settings.erasure_ledger) if settings.erasure_ledger is not None else None,
            build=_build(settings),
            links=UnsubscribeLinks.of(
                [secret.get_secret_value() for secret in settings.unsubscribe_secrets],
                instance_secret,
                settings.public_url,
            ),
        )
        async with running(parts):
            logger.info("working")
            await stop.wait()
            logger.info("stopping")


def _build(settings: Settings) -> WorkerDeploymentVersion | None:
    if settings.worker_build is None:
        return None
    return WorkerDeploymentVersion(deployment_name=settings.worker_deployment, build_id=settings.worker_build)


async def _instance_secret(pool: Pool[Record]) -> bytes:
    async with connection(pool) as conn:
        return await read_secret(conn)


async def _reach(part: str, stop: asyncio.Event, open_part: Callable[[], Awaitable[_Part]]) -> _Part | None:
    """Open a part, however long it takes to be there; None when we are told to stop meanwhile."""
    while not stop.is_set():
        try:
            return await open_part()
        except (OSError, TimeoutError, RuntimeError, asyncpg.PostgresError) as error:
            logger.warning("waiting for a part", extra={"part": part, "error": type(error).__name__})
        try:
            await asyncio.wait_for(stop.wait(), PAUSE)
        except TimeoutError:
            continue
    return None


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Not sys.exit: native threads of Temporal's SDK may touch the interpreter while it is being torn down, which aborts
    # the process after all is done well. Everything of ours is closed.
    os._exit(status)
