from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.application.doctor import Doctor, Finding
from orchestrator.application.transactions import Transactions
from orchestrator.cli.failure import FAILED, USAGE, CommandFailure
from orchestrator.cli.output import Output, OutputOption, print_json, print_table
from orchestrator.devstack.postgres import EmbeddedPostgres
from orchestrator.settings import Settings
from orchestrator.storage import migrations
from orchestrator.storage.migrations import SchemaRefused
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.storage.reachability import open_connection
from orchestrator.temporal.client import Target, connect


def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="Of `orchestrator up`.", show_default=".orchestrator")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look for what is wrong or stuck, in the database and in Temporal; exit code 1 if anything is.

    Reads DATABASE_URL, else the database in the data directory, and TEMPORAL_ADDRESS. Changes nothing.
    """
    settings = Settings.load()
    found = asyncio.run(_examine(settings, settings.database_url or _kept_database(data_dir or settings.data_dir)))
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


async def _examine(settings: Settings, dsn: str) -> list[Finding]:
    # One that can be spoken to, before a pool retries in vain.
    conn = await open_connection(dsn)
    try:
        if await migrations.missing_migrations(conn):
            raise SchemaRefused("The database is not of this release: run `orchestrator migrate` first.")
    finally:
        await conn.close()
    pool = await open_pool(dsn, role=WORKER_ROLE, size=2, application_name="orchestrator-doctor")
    try:
        target = Target(address=settings.temporal_address or "", namespace=settings.temporal_namespace)
        temporal = await connect(target, lazy=True)
        return [finding async for finding in Doctor(Transactions(pool), temporal).examine()]
    finally:
        await pool.close()


def _kept_database(data_dir: Path) -> str:
    directory = data_dir / "postgres"
    if not directory.is_dir():
        raise CommandFailure(f"Set DATABASE_URL: there is no database of `orchestrator up` in {data_dir}.", USAGE)
    return EmbeddedPostgres(directory, log=data_dir / "logs" / "postgres.log").dsn()


def _told(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.name,
        "wrong": finding.count.total,
        "examples": list(finding.count.examples),
        "remedy": finding.remedy,
    }


def _examples(finding: Finding) -> list[str]:
    return list(finding.count.examples) or [""]
