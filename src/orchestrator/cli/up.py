from __future__ import annotations

import asyncio

import typer
from rich.console import Console
from rich.table import Table

from orchestrator.cli.stack import (
    METRICS_PORT,
    TEMPORAL_PORT,
    TEMPORAL_UI_PORT,
    CodecPort,
    DataDir,
    Encrypt,
    GrpcPort,
    HttpPort,
    MetricsPort,
    TemporalPort,
    TemporalUiPort,
    Workers,
    run_on_stack,
    stack_options,
)
from orchestrator.devstack.data_directory import OWNER_KEY
from orchestrator.devstack.stack import CODEC_TOKEN, Stack
from orchestrator.storage.reachability import without_password


def up(
    data_dir: DataDir = None,
    grpc_port: GrpcPort = None,
    http_port: HttpPort = None,
    temporal_port: TemporalPort = TEMPORAL_PORT,
    temporal_ui_port: TemporalUiPort = TEMPORAL_UI_PORT,
    metrics_port: MetricsPort = METRICS_PORT,
    workers: Workers = None,
    encrypt: Encrypt = False,
    codec_port: CodecPort = None,
) -> None:
    """Run everything on this machine until Ctrl-C: Postgres and Temporal where no address is given, server, workers.

    Prints `ready` on stdout when requests are served. What was under way goes on at the next start.
    """
    options = stack_options(
        data_dir=data_dir,
        grpc_port=grpc_port,
        http_port=http_port,
        temporal_port=temporal_port,
        temporal_ui_port=temporal_ui_port,
        metrics_port=metrics_port,
        workers=workers,
        encrypt=encrypt,
        codec_port=codec_port,
    )
    raise typer.Exit(asyncio.run(run_on_stack(options, _serve)))


async def _serve(stack: Stack) -> int:
    show_addresses(stack)
    typer.echo("ready")
    await asyncio.get_running_loop().create_future()
    return 0


def show_addresses(stack: Stack) -> None:
    """A table for people; an owner key that was made just now is in it, and never shown again."""
    addresses = stack.addresses
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(no_wrap=True)
    table.add_row("HTTP", addresses.http)
    table.add_row("gRPC", addresses.grpc)
    if addresses.temporal_ui:
        table.add_row("Temporal UI", addresses.temporal_ui)
    table.add_row("Temporal", addresses.temporal)
    if addresses.codec:
        table.add_row("Codec server", addresses.codec)
        if (token := addresses.data_dir / CODEC_TOKEN).exists():
            table.add_row("", f"log in there with the token kept in {token}")
    table.add_row("Postgres", without_password(addresses.database_url))
    table.add_row("Metrics", f"{addresses.http}/metrics")
    for address in addresses.metrics:
        table.add_row("", address)
    table.add_row("Data, logs", str(addresses.data_dir))
    if stack.keys.owner_is_new:
        table.add_row("Owner key", stack.keys.owner)
        table.add_row("", f"shown this once; kept in {addresses.data_dir / OWNER_KEY}")
    # Wider than any terminal: an address that is cut or broken over lines cannot be copied.
    Console(stderr=True, highlight=False, width=1000).print(table)
    if stack.keys.owner_is_new:
        stack.owner_key_shown()
