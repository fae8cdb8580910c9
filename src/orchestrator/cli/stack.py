"""The flags of commands that start a stack, and how they run on it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import exposure
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.stack import Stack, StackOptions
from orchestrator.exposure.listeners import SERVER, WORKER
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from pydantic import SecretStr

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds for a stack whose processes are gone to notice it.
_LAST_WORDS = 5.0

DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept.", show_default=".orchestrator")]
GrpcPort = Annotated[int | None, typer.Option(help="gRPC.", show_default="50051", min=1, max=65535)]
HttpPort = Annotated[int | None, typer.Option(help="HTTP.", show_default="8080", min=1, max=65535)]
TemporalPort = Annotated[int, typer.Option(help="Temporal.", min=1, max=65535)]
TemporalUiPort = Annotated[int, typer.Option(help="Temporal's pages.", min=1, max=65535)]
MetricsPort = Annotated[int, typer.Option(help="Metrics of the first worker; the others follow.", min=1, max=65535)]
Workers = Annotated[int | None, typer.Option(help="Worker processes.", show_default="one per core", min=1, max=64)]

Encrypt = Annotated[
    bool, typer.Option("--encrypt", help="Encrypt Temporal's histories; runs a codec server for its pages.")
]
CodecPort = Annotated[int | None, typer.Option(help="Codec server.", show_default="8081", min=1, max=65535)]

TEMPORAL_PORT = 7233
TEMPORAL_UI_PORT = 8233
METRICS_PORT = 9464


def stack_options(
    *,
    data_dir: Path | None,
    grpc_port: int | None,
    http_port: int | None,
    temporal_port: int,
    temporal_ui_port: int,
    metrics_port: int,
    workers: int | None,
    encrypt: bool = False,
    codec_port: int | None = None,
) -> StackOptions:
    """What the flags say, else the environment, else the defaults. Raises InvalidSettings or CommandFailure."""
    settings = Settings.load()
    if settings.tls_certificate is not None:
        raise CommandFailure(
            "On one machine nothing is encrypted: unset ORCHESTRATOR_TLS_CERTIFICATE, or run `orchestrator serve`.",
            USAGE,
        )
    # Here it can be said at once and whole; the processes would say it in their logs.
    listening = settings.model_copy(update={"worker_metrics_port": metrics_port})
    for process in (SERVER, WORKER):
        exposure.check(listening, process, environment=os.environ)
    return StackOptions(
        data_dir=data_dir or settings.data_dir,
        database_url=settings.database_url or "",
        temporal_address=settings.temporal_address or "",
        temporal_namespace=settings.temporal_namespace,
        api_key=_text(settings.api_key),
        operator_key=_text(settings.operator_key),
        internal_token=_text(settings.internal_token),
        internal_token_previous=_text(settings.internal_token_previous),
        encrypt=encrypt,
        payload_keys=tuple(settings.payload_key_texts),
        codec_tokens=tuple(token.get_secret_value() for token in settings.codec_tokens),
        codec_origin=settings.codec_origin or "",
        codec_port=codec_port or settings.codec_port or free_ports(1)[0],
        grpc_host=settings.grpc_host,
        grpc_port=grpc_port or settings.grpc_port or free_ports(1)[0],
        http_host=settings.http_host,
        http_port=http_port or settings.http_port or free_ports(1)[0],
        temporal_port=temporal_port,
        temporal_ui_port=temporal_ui_port,
        metrics_host=settings.worker_metrics_host,
        metrics_port=metrics_port,
        workers=workers or settings.workers,
    )


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


async def run_on_stack(options: StackOptions, work: Callable[[Stack], Awaitable[int]], *, interrupted: int = 0) -> int:
    """Starts the stack, does the work, stops the stack; returns what the work returned.

    SIGINT, SIGTERM or SIGHUP end whatever goes on, also the start; then the result is `interrupted`. A second one kills
    what has not stopped by then; then the result is 128 and its number, as in shells. Raises StackFailure.
    """
    stack = Stack(options, talk=lambda sentence: typer.echo(sentence, err=True))
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, signals.put_nowait, number)
    running = asyncio.ensure_future(_run(stack, work))
    try:
        if await _signal_before(running, signals) is not None:
            typer.echo("Stopping …", err=True)
            running.cancel()
            second = await _signal_before(running, signals)
            if second is not None:
                typer.echo("Stopping at once.", err=True)
                await stack.kill()
                await asyncio.wait({running}, timeout=_LAST_WORDS)
                if not running.done():
                    os._exit(128 + second)  # the loop's own end would wait for it
                return 128 + second
        return interrupted if running.cancelled() else running.result()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def _run(stack: Stack, work: Callable[[Stack], Awaitable[int]]) -> int:
    async with stack:
        return await work(stack)


async def _signal_before(end: asyncio.Future[int], signals: asyncio.Queue[int]) -> int | None:
    """The next signal; None if the end comes first."""
    arriving = asyncio.ensure_future(signals.get())
    await asyncio.wait({arriving, end}, return_when=asyncio.FIRST_COMPLETED)
    if arriving.done():
        return arriving.result()
    arriving.cancel()
    return None
