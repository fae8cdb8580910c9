from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.settings import Settings
from orchestrator.storage import migrations
from orchestrator.storage.reachability import open_connection


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Only list what is missing; exit code 1 if anything is.")
    ] = False,
) -> None:
    """Bring the database at DATABASE_URL to the schema of this release. `up` does it by itself."""
    dsn = Settings.load().database_url
    if dsn is None:
        raise CommandFailure("Set DATABASE_URL to the database to migrate; `orchestrator up` migrates its own.", USAGE)
    if check:
        missing = asyncio.run(_missing(dsn))
        for migration in missing:
            typer.echo(migration.file_name)
        raise typer.Exit(1 if missing else 0)
    applied = asyncio.run(migrations.migrate(dsn, applied=lambda migration: typer.echo(migration.file_name)))
    typer.echo(f"{len(applied)} applied; the schema is up to date.", err=True)


async def _missing(dsn: str) -> tuple[migrations.Migration, ...]:
    conn = await open_connection(dsn)
    try:
        return await migrations.missing_migrations(conn)
    finally:
        await conn.close()
