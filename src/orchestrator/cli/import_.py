"""`import`: a bundle taken over by a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.bundle_files import read_bundle
from orchestrator.cli.connection import call, sentence_of
from orchestrator.cli.output import Output, OutputOption, print_json, print_list
from orchestrator.client import Violation, messages

_COLUMNS = ("kind", "id", "action", "fields", "version")
#: Seconds.
_PATIENCE = 60.0


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle in YAML or JSON, - for stdin.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything, say what came of it, and undo it.")
    ] = False,
    settings: Annotated[bool, typer.Option(help="With the settings of the project, which takes an owner.")] = True,
    paused: Annotated[
        bool, typer.Option("--paused", help="Journeys that the bundle has as active take nobody in yet.")
    ] = False,
    etag: Annotated[
        str, typer.Option(help="Refuse if any definition has changed since this was shown.", metavar="ETAG")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make everything that a bundle speaks of as it says, or change nothing.

    What it does not speak of stays as it is. A second import of a bundle changes nothing.
    """
    bundle = read_bundle(file)
    if not settings:
        bundle.ClearField("settings")
    for journey in bundle.journeys:
        if paused and journey.status == messages.Journey.STATUS_ACTIVE:
            journey.status = messages.Journey.STATUS_PAUSED
    request = messages.ImportBundleRequest(bundle=bundle, validate_only=dry_run, etag=etag)
    imported = call(lambda client: client.bundles.ImportBundle(request, timeout=_PATIENCE))
    if output is Output.JSON:
        print_json(encode(imported))
    else:
        rows = [encode(change) for change in imported.changes]
        print_list([{**row, "fields": ", ".join(row.get("fields", []))} for row in rows], _COLUMNS, output)
    for change in imported.changes:
        for warning in change.warnings:
            told = sentence_of(Violation(warning.path, warning.reason, warning.message))
            typer.echo(f"warning: {told}", err=True)
    counts = f"{imported.created_count} created, {imported.updated_count} updated, {imported.unchanged_count} unchanged"
    what = "Nothing was changed; it would be" if dry_run else "Done:"
    typer.echo(f"{what} {counts}, {imported.published_count} published; etag {imported.etag}", err=True)
