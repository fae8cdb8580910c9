from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.cli.connection import failure_of
from orchestrator.cli.demo_example import Example, read_example
from orchestrator.cli.demo_ledger import differences
from orchestrator.cli.demo_recount import recount
from orchestrator.cli.demo_report import page_of, show_ledger, show_verdict
from orchestrator.cli.demo_run import Run, prepare, run
from orchestrator.cli.failure import FAILED
from orchestrator.cli.output import console
from orchestrator.cli.stack import (
    METRICS_PORT,
    TEMPORAL_PORT,
    TEMPORAL_UI_PORT,
    DataDir,
    GrpcPort,
    HttpPort,
    MetricsPort,
    TemporalPort,
    TemporalUiPort,
    Workers,
    run_on_stack,
    stack_options,
)
from orchestrator.cli.up import show_addresses
from orchestrator.client import OrchestratorClient, OrchestratorError
from orchestrator.devstack.stack import Stack

_INTERRUPTED = 130


def demo(
    data_dir: DataDir = None,
    grpc_port: GrpcPort = None,
    http_port: HttpPort = None,
    temporal_port: TemporalPort = TEMPORAL_PORT,
    temporal_ui_port: TemporalUiPort = TEMPORAL_UI_PORT,
    metrics_port: MetricsPort = METRICS_PORT,
    workers: Workers = None,
    keep: Annotated[bool, typer.Option("--keep", help="Go on serving until Ctrl-C.")] = False,
) -> None:
    """Run everything, and 200 people through the journey of examples/welcome; then hold the result against a recount.

    The exit code is 0 only if each step and each message of each of them is what the recount says.
    """
    options = stack_options(
        data_dir=data_dir,
        grpc_port=grpc_port,
        http_port=http_port,
        temporal_port=temporal_port,
        temporal_ui_port=temporal_ui_port,
        metrics_port=metrics_port,
        workers=workers,
    )
    example = read_example()

    async def work(stack: Stack) -> int:
        code = await _demonstrate(stack, example)
        if keep:
            show_addresses(stack)
            typer.echo("ready")
            # Ctrl-C is how this is meant to end: the exit code stays what the demo found.
            with suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
        return code

    raise typer.Exit(asyncio.run(run_on_stack(options, work, interrupted=_INTERRUPTED)))


async def _demonstrate(stack: Stack, example: Example) -> int:
    addresses = stack.addresses
    async with OrchestratorClient(addresses.grpc, stack.keys.owner, timeout=30) as client:
        try:
            done = await run_example(client, example)
            return await judge(client, done, temporal_ui=addresses.temporal_ui, namespace=addresses.temporal_namespace)
        except OrchestratorError as error:
            raise failure_of(error, addresses.grpc) from error


async def run_example(client: OrchestratorClient, example: Example) -> Run:
    """Run it to its end, with people who have not been through it. Raises OrchestratorError and CommandFailure."""
    example, changes = await prepare(client, example)
    for change in changes:
        told = change.told()
        typer.echo(f"{told['kind']} {told['id']}: {told['action']}", err=True)
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        return await run(client, example, progress)


async def judge(client: OrchestratorClient, done: Run, *, temporal_ui: str, namespace: str) -> int:
    """Print what the ledgers say and whether it is what must be; returns the exit code."""
    ledger = await done.ledger(client)
    expected = recount(done.example.people, done.example.events)
    found = list(differences(expected, ledger))
    where_to_look = []
    if ledger.workflow_ids:
        subject_id, workflow_id = max(
            ledger.workflow_ids.items(), key=lambda item: len(ledger.travels[item[0]][0].visits)
        )
        page = page_of(temporal_ui, namespace, workflow_id) if temporal_ui else f"workflow {workflow_id}"
        where_to_look.append(f"{subject_id} in Temporal: {page}")
    show_ledger(console(), ledger, steps=done.example.steps, seconds=done.seconds, where_to_look=where_to_look)
    show_verdict(console(), found, people=len(done.example.people), entries=sum(expected.refused.values()))
    return FAILED if found else 0
