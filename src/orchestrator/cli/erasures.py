from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.failure import FAILED, USAGE, CommandFailure
from orchestrator.cli.output import Output, OutputOption, print_list, print_one
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.client import OrchestratorClient, each, messages
from orchestrator.settings import Settings

app = typer.Typer(help="Look at erasures, lift them, and do them again after a restore.", no_args_is_help=True)

#: Seconds between two looks at an erasure that is waited for.
_EVERY = 0.5


@app.command("list")
def list_(limit: Limit = 50, output: OutputOption = Output.TABLE) -> None:
    """List erasures, newest first."""
    request = messages.ListErasuresRequest(page_size=page_size(limit))
    found = call(lambda client: first(each(client.erasures.ListErasures, request), limit))
    print_list(found, ("id", "subjectRef", "phase", "requestedAt", "endedAt", "refusedCount", "liftedAt"), output)


@app.command()
def show(
    erasure_id: Id,
    wait: Annotated[bool, typer.Option("--wait", help="Until everything is erased.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one erasure: how far it has come, or its receipt."""
    request = messages.GetErasureRequest(erasure_id=erasure_id)
    erasure = call(lambda client: client.erasures.GetErasure(request)).erasure
    print_one(encode(until_done(erasure) if wait else erasure), output)


@app.command()
def lift(
    subject_id: Annotated[str, typer.Argument(metavar="SUBJECT_ID", help="Any of the ids they had.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Take somebody in again who was forgotten. Nothing that was erased comes back."""
    request = messages.LiftTombstoneRequest(subject_id=subject_id)
    print_one(encode(call(lambda client: client.erasures.LiftTombstone(request)).erasure), output)


@app.command()
def replay(
    ledger: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIRECTORY]...",
            help="Ledgers of all servers and workers; without one, ORCHESTRATOR_ERASURE_LEDGER.",
        ),
    ] = None,
) -> None:
    """Forget again, in the restored database at DATABASE_URL, whomever the ledger names; before anything runs on it.

    May be repeated. Workers do the rest once they run; `erasures list` shows how far they have come.
    """
    settings = Settings.load()
    directories = ledger or ([settings.erasure_ledger] if settings.erasure_ledger is not None else [])
    if settings.database_url is None:
        raise CommandFailure("Set DATABASE_URL to the database that was restored.", USAGE)
    if not directories:
        raise CommandFailure("Name the directory of the ledger, or set ORCHESTRATOR_ERASURE_LEDGER.", USAGE)
    missing = asyncio.run(_replay(settings.database_url, directories))
    if missing:
        raise CommandFailure(f"The database has no project {', '.join(missing)}: is it the right one?", FAILED)


async def _replay(dsn: str, directories: list[Path]) -> tuple[str, ...]:
    """Says what came of it, and returns the projects that are not there."""
    from orchestrator.application.erasure_replays import replay as replay_lines
    from orchestrator.application.transactions import Transactions
    from orchestrator.domain.scope import INSTANCE
    from orchestrator.storage import erasure_ledger, migrations
    from orchestrator.storage.erasure_ledger import LedgerUnreadable
    from orchestrator.storage.instance import read_secret
    from orchestrator.storage.migrations import SchemaRefused
    from orchestrator.storage.pool import API_ROLE, open_pool
    from orchestrator.storage.reachability import open_connection

    try:
        lines = erasure_ledger.read(directories)
    except (OSError, LedgerUnreadable) as error:
        raise CommandFailure(f"The ledger cannot be read: {error}", USAGE) from error
    conn = await open_connection(dsn)
    try:
        if await migrations.missing_migrations(conn):
            raise SchemaRefused("The database is not of this release: run `orchestrator migrate` first.")
    finally:
        await conn.close()
    pool = await open_pool(dsn, role=API_ROLE, size=2, application_name="orchestrator-replay")
    try:
        transactions = Transactions(pool)
        async with transactions.read(INSTANCE) as connection:
            secret = await read_secret(connection)
        done = await replay_lines(transactions, secret, lines)
    finally:
        await pool.close()
    typer.echo(
        f"{done.named} erasures in the ledger, {done.unknown} of them unknown to this database: {done.found} subjects "
        f"are forgotten again, {done.refused} further ids are refused, {done.lifted} that it knew are lifted.",
        err=True,
    )
    return done.missing_projects


def until_done(erasure: messages.Erasure) -> messages.Erasure:
    """The erasure once it is done. Interrupting this leaves it alone."""
    return call(lambda client: _done(client, erasure))


async def _done(client: OrchestratorClient, erasure: messages.Erasure) -> messages.Erasure:
    request = messages.GetErasureRequest(erasure_id=erasure.id)
    while erasure.phase != messages.Erasure.PHASE_DONE:
        await asyncio.sleep(_EVERY)
        erasure = (await client.erasures.GetErasure(request)).erasure
    return erasure
