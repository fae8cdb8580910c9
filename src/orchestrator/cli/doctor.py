from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.application.doctor import ON_ITS_WAY, Doctor, Finding
from orchestrator.application.repairs import Difference, Repairs
from orchestrator.cli.database import all_projects, find_database
from orchestrator.cli.failure import FAILED, UNAVAILABLE, USAGE, CommandFailure
from orchestrator.cli.output import Output, OutputOption, print_json, print_table
from orchestrator.devstack.addresses import Addresses, find_running
from orchestrator.devstack.data_directory import DataDirectory
from orchestrator.devstack.stack import PAYLOAD_KEYS
from orchestrator.settings import Settings
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.codec import data_converter
from orchestrator.temporal.keyring import Keyring


def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="Of `orchestrator up`.", show_default=".orchestrator")] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Show what would be done where Postgres and Temporal differ, in place of checks."
        ),
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="With --repair: do it.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look for what is wrong or stuck, in the database and in Temporal; exit code 1 if anything is.

    Reads DATABASE_URL and TEMPORAL_ADDRESS; without them it looks at what `orchestrator up` runs on the data directory.
    Changes nothing but with `--repair --apply`.
    """
    if apply and not repair:
        raise CommandFailure("--apply goes with --repair.", USAGE)
    settings = Settings.load()
    data_dir = data_dir or settings.data_dir
    running = find_running(data_dir)
    dsn = find_database(settings, running, data_dir)
    if repair:
        _repair(dsn, settings, running, apply=apply, output=output)
        return
    found = asyncio.run(_examine(dsn, settings, running))
    if output is Output.JSON:
        print_json([_told(finding) for finding in found])
    else:
        rows = [{**_told(finding), "example": example} for finding in found for example in _examples(finding)]
        print_table(rows, ("check", "wrong", "example"))
    wrong = [finding for finding in found if finding.count.total]
    for finding in wrong:
        typer.echo(f"{finding.name}: {finding.remedy}", err=True)
    typer.echo(f"{len(found)} checks, {len(wrong)} of them found something.", err=True)
    raise typer.Exit(FAILED if wrong else 0)


async def _examine(dsn: str, settings: Settings, running: Addresses | None) -> list[Finding]:
    async with all_projects(dsn, "orchestrator-doctor") as transactions:
        temporal = await _temporal(settings, running)
        return [finding async for finding in Doctor(transactions, temporal).examine()]


def _repair(dsn: str, settings: Settings, running: Addresses | None, *, apply: bool, output: Output) -> None:
    """Shows what would be done, or does it and shows what was; exit code 1 where something is still to be done."""
    try:
        told = asyncio.run(_repairs(dsn, settings, running, apply=apply))
    except (RPCError, RuntimeError):
        # RuntimeError: a client that connects at its first call could not.
        raise CommandFailure("Temporal does not answer: see that TEMPORAL_ADDRESS is right.", UNAVAILABLE) from None
    if output is Output.JSON:
        print_json(told)
    else:
        print_table(told, ("repair", "of", "workflow", "done"))
    typer.echo(f"{len(told)} differences{'' if apply else ', and nothing was done: add --apply'}.", err=True)
    raise typer.Exit(FAILED if told and not apply else 0)


async def _repairs(dsn: str, settings: Settings, running: Addresses | None, *, apply: bool) -> list[dict[str, Any]]:
    async with all_projects(dsn, "orchestrator-doctor") as transactions:
        repairs = Repairs(transactions, await _temporal(settings, running), on_its_way=ON_ITS_WAY)
        if apply:
            return [_said(difference, done=done) async for difference, done in repairs.carry_out()]
        return [_said(difference, done=False) for difference in await repairs.plan()]


def _said(difference: Difference, *, done: bool) -> dict[str, Any]:
    return {
        "repair": difference.repair.value,
        "of": difference.which,
        "workflow": difference.status.name.lower() if difference.status is not None else "",
        "done": done,
    }


async def _temporal(settings: Settings, running: Addresses | None) -> Client:
    """Not connected yet: whether it answers is one of the checks."""
    keyring = Keyring.of(settings.payload_key_texts or _payload_keys_of(running))
    if settings.temporal_address is None and running is not None and running.temporal_ui:
        # The user's own settings for Temporal are for another one than that.
        return await Client.connect(
            running.temporal, namespace=running.temporal_namespace, data_converter=data_converter(keyring), lazy=True
        )
    address, namespace = settings.temporal_address or "", settings.temporal_namespace
    if not address and running is not None:
        address, namespace = running.temporal, running.temporal_namespace
    return await connect(Target(address=address, namespace=namespace), keyring=keyring, lazy=True)


def _payload_keys_of(running: Addresses | None) -> list[str]:
    """Those that an `up` has made for itself."""
    kept = DataDirectory(running.data_dir).kept(PAYLOAD_KEYS) if running is not None else ""
    return [kept] if kept else []


def _told(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.name,
        "wrong": finding.count.total,
        "examples": list(finding.count.examples),
        "remedy": finding.remedy,
    }


def _examples(finding: Finding) -> list[str]:
    return list(finding.count.examples) or [""]
