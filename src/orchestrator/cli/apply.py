"""`apply`: makes what is there equal to what documents say, and says what it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli.changes import Change, Prospect, find_changes, make, refusals
from orchestrator.cli.connection import call, sentence_of
from orchestrator.cli.documents import Document, read_documents
from orchestrator.cli.failure import CommandFailure
from orchestrator.cli.files import Files
from orchestrator.cli.forms import form_of
from orchestrator.cli.kinds import JOURNEY
from orchestrator.cli.output import Output, OutputOption, print_list
from orchestrator.cli.publication import find_publication
from orchestrator.client import OrchestratorClient, OrchestratorError, Violation, messages

_COLUMNS = ("kind", "id", "action", "fields", "version")


def apply(
    files: Files,
    publish: Annotated[bool, typer.Option(help="Publish journeys whose draft differs from the newest version.")] = True,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check everything and change nothing.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create or update what documents describe: `kind`, and the resource as the API has it.

    The kinds are segment, audience, communication, triggerContract and journey. All are checked before any is changed;
    what is as it should be is left alone, and so is every field that a document does not speak of.
    """
    documents = read_documents(files)
    done: list[Change] = []
    try:
        call(lambda client: _apply(client, documents, done, publish=publish, validate_only=validate_only))
    finally:
        # Also what was done before something failed.
        if done:
            print_list([change.told() for change in done], _COLUMNS, output)
    if validate_only:
        typer.echo("All of it is valid; nothing was changed.", err=True)


async def apply_documents(client: OrchestratorClient, documents: Sequence[Document]) -> list[Change]:
    """Check, change and publish. Raises OrchestratorError, and CommandFailure if nothing was changed."""
    done: list[Change] = []
    await _apply(client, documents, done, publish=True, validate_only=False)
    return done


async def _apply(
    client: OrchestratorClient,
    documents: Sequence[Document],
    done: list[Change],
    *,
    publish: bool,
    validate_only: bool,
) -> None:
    changes = await find_changes(client, documents)
    if wrong := await refusals(client, changes):
        raise CommandFailure("\n".join(["Nothing was changed.", *map(str, wrong)]))
    if validate_only:
        return
    for change in changes:
        if change.is_needed:
            await make(client, change)
        done.append(change)
    if publish:
        prospect = Prospect(client)
        for change in changes:
            if change.document.kind is JOURNEY:
                change.published = await _publish(client, prospect, change.document)


async def _publish(client: OrchestratorClient, prospect: Prospect, document: Document) -> int | None:
    """The version that was made; None when the newest one is what the draft says, or says without one."""
    journey = await JOURNEY.find(client, document.id, form=form_of(document.resource))
    if await find_publication(client, prospect, journey) is None:
        return None
    try:
        published = await client.journeys.PublishJourney(
            messages.PublishJourneyRequest(journey_id=journey.id, etag=journey.etag)
        )
    except OrchestratorError as error:
        if error.reason == "NO_DRAFT":  # somebody else has just published it
            return None
        raise
    for warning in published.warnings:
        typer.echo(f"{document}: {sentence_of(Violation(warning.path, warning.reason, warning.message))}", err=True)
    return published.version
