from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.application.audit_verification import Verified, verify_all
from orchestrator.cli.connection import call
from orchestrator.cli.database import all_projects, find_database
from orchestrator.cli.failure import FAILED, USAGE, CommandFailure
from orchestrator.cli.output import Output, OutputOption, print_json, print_list, print_table
from orchestrator.cli.resources import Limit, first, page_size
from orchestrator.client import each, messages
from orchestrator.devstack.addresses import find_running
from orchestrator.devstack.stack import AUDIT_ANCHORS
from orchestrator.domain.audit_chain import Anchors, by_project
from orchestrator.settings import Settings
from orchestrator.storage import anchor_files

app = typer.Typer(no_args_is_help=True)

_ENTRY_COLUMNS = ("timestamp", "actor", "action", "resourceKind", "resourceId", "metadata")
_COLUMNS = ("project", "entries", "unsealed", "anchors", "head", "misfit")


@app.callback()
def audit() -> None:
    """See who did what, and that the log of it was not changed."""


@app.command("list")
def list_(
    kind: Annotated[str, typer.Option(help="Only what was done to such things: journey, subject, api_key, …")] = "",
    resource_id: Annotated[str, typer.Option("--id", help="Only what was done to this one; needs --kind.")] = "",
    limit: Limit = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what was done in the project, newest first: asks the server, with a key of the project."""
    if resource_id and not kind:
        raise CommandFailure("Say with --kind what --id names, such as journey.", USAGE)
    request = messages.ListAuditEntriesRequest(resource_kind=kind, resource_id=resource_id, page_size=page_size(limit))
    found = call(lambda client: first(each(client.audit.ListAuditEntries, request), limit))
    print_list(found, _ENTRY_COLUMNS, output)


@app.command()
def verify(
    anchors: Annotated[
        list[Path] | None,
        typer.Option(
            help="A directory of anchors; may be given several times.", show_default="ORCHESTRATOR_AUDIT_ANCHORS"
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Of `orchestrator up`.", show_default=".orchestrator")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make the chain of each project's audit log again, and hold it against its seals and the anchors; exit code 1 at
    the first entry that does not fit.

    Reads DATABASE_URL; without it, it looks at what `orchestrator up` runs on the data directory. Changes nothing. Only
    anchors tell that the end of a log was cut off, or that all of it was sealed anew.
    """
    settings = Settings.load()
    data_dir = data_dir or settings.data_dir
    running = find_running(data_dir)
    dsn = find_database(settings, running, data_dir)
    directories = anchors or _usual(settings, data_dir if running is not None else None)
    found = _read(directories)
    rows = asyncio.run(_verify(dsn, by_project(found.anchors)))
    if output is Output.JSON:
        print_json(rows)
    else:
        print_table([{**row, "misfit": _sentence(row)} for row in rows], _COLUMNS)
    for place in found.unreadable:
        typer.echo(f"{place} is not an anchor and was passed over: was its writer stopped in the middle?", err=True)
    if not directories:
        typer.echo("No anchors: whether the end was cut off, or all was sealed anew, cannot be seen.", err=True)
    wrong = [row for row in rows if row["misfit"] is not None]
    for row in wrong:
        typer.echo(f"{row['project']}: {_sentence(row)}.", err=True)
    typer.echo(f"{len(rows)} projects, {len(wrong)} of them with a log that does not fit.", err=True)
    raise typer.Exit(FAILED if wrong else 0)


def _sentence(row: Mapping[str, Any]) -> str:
    return str(row["misfit"]["sentence"]) if row["misfit"] is not None else ""


async def _verify(dsn: str, anchors: Mapping[str, Anchors]) -> list[dict[str, Any]]:
    async with all_projects(dsn, "orchestrator-audit") as transactions:
        return [_told(project_id, verified) async for project_id, verified in verify_all(transactions, anchors)]


def _usual(settings: Settings, data_dir: Path | None) -> list[Path]:
    if settings.audit_anchors is not None:
        return [settings.audit_anchors]
    if data_dir is not None and (data_dir / AUDIT_ANCHORS).is_dir():
        return [data_dir / AUDIT_ANCHORS]
    return []


def _read(directories: Iterable[Path]) -> anchor_files.Found:
    try:
        return anchor_files.read(directories)
    except OSError as error:
        raise CommandFailure(f"{error.filename} cannot be read: {error.strerror}.", USAGE) from error


def _told(project_id: str, verified: Verified) -> dict[str, Any]:
    misfit = verified.misfit
    return {
        "project": project_id,
        "entries": verified.head.seq,
        "unsealed": verified.unsealed,
        "anchors": verified.anchors,
        "head": verified.head.hash.hex(),
        "misfit": None
        if misfit is None
        else {
            "kind": misfit.kind.value,
            "seq": misfit.seq,
            "toSeq": misfit.to_seq,
            "auditEntryId": misfit.audit_no,
            "sentence": misfit.sentence,
        },
    }
