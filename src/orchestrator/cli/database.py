"""The database that commands look at themselves, without a server: as the environment says, else that of `up`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.application.transactions import Transactions
from orchestrator.cli.failure import UNAVAILABLE, USAGE, CommandFailure
from orchestrator.devstack.addresses import Addresses
from orchestrator.settings import Settings
from orchestrator.storage import migrations
from orchestrator.storage.migrations import SchemaRefused
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.storage.reachability import open_connection
from orchestrator.storage.rights import require_rights


def find_database(settings: Settings, running: Addresses | None, data_dir: Path) -> str:
    """Its address. Raises CommandFailure when it cannot be known."""
    if settings.database_url:
        return settings.database_url
    if running is None:
        raise CommandFailure(f"No `orchestrator up` runs on {data_dir}: start it, or set DATABASE_URL.", UNAVAILABLE)
    if not running.database_url:
        raise CommandFailure(
            f"The `orchestrator up` on {data_dir} was given its database: set DATABASE_URL to the same.", USAGE
        )
    return running.database_url


@asynccontextmanager
async def all_projects(dsn: str, application_name: str) -> AsyncIterator[Transactions]:
    """Transactions of the workers' role, which sees all projects. Raises SchemaRefused, RightsMissing or
    DatabaseUnreachable.
    """
    # One that can be spoken to, before a pool retries in vain.
    conn = await open_connection(dsn)
    try:
        await require_rights(conn)
        if await migrations.missing_migrations(conn):
            raise SchemaRefused("The database is not of this release: run `orchestrator migrate` first.")
    finally:
        await conn.close()
    pool = await open_pool(dsn, role=WORKER_ROLE, size=2, application_name=application_name)
    try:
        yield Transactions(pool)
    finally:
        await pool.close()
