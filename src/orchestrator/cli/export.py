"""`export`: a project's definitions as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.api.message_check import check_message
from orchestrator.cli.bundle_files import write_bundle
from orchestrator.cli.connection import call, sentence_of
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.output import Output
from orchestrator.client import Violation, messages

#: Seconds.
_PATIENCE = 60.0


def export(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these journeys, and all that they name.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-o", help="Where to: JSON if it ends in .json, else YAML.", metavar="FILE")
    ] = None,
    settings: Annotated[bool, typer.Option(help="With the settings of the project.")] = True,
) -> None:
    """Write the project as a bundle, which `import` takes: settings, segments, audiences, communications, trigger
    contracts, and journeys with what is published and what is not.

    Not in it are subjects, members of lists, events and ledgers, versions before the newest, archived journeys, keys.
    """
    if str(file) in {output.value for output in Output}:
        raise CommandFailure(f"-o names a file: ./{file} for one of that name.", USAGE)
    request = messages.ExportBundleRequest(without_settings=not settings, journey_ids=ids or [])
    exported = call(lambda client: client.bundles.ExportBundle(request, timeout=_PATIENCE))
    text = write_bundle(exported.bundle, file)
    if file is None:
        typer.echo(text, nl=False)
    for warning in exported.warnings:
        told = sentence_of(Violation(warning.path, warning.reason, warning.message))
        typer.echo(f"warning: {told}", err=True)
    for left_out in exported.left_out:
        typer.echo(f"not in it: {left_out.kind} {left_out.id}: {left_out.message}", err=True)
    for fault in check_message(messages.ImportBundleRequest(bundle=exported.bundle)):
        told = sentence_of(Violation(fault.path, fault.reason, fault.message))
        typer.echo(f"warning: no server takes this at once; export journeys one by one: {told}", err=True)
