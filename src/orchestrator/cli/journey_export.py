"""`journeys export`: what is there as documents that `apply` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.changes import find
from orchestrator.cli.connection import call
from orchestrator.cli.failure import FAILED, USAGE, CommandFailure
from orchestrator.cli.forms import Form, FormOption, number_of
from orchestrator.cli.kinds import JOURNEY, KINDS, SEGMENT
from orchestrator.cli.names import names_in
from orchestrator.cli.output import Output
from orchestrator.cli.publication import find_version
from orchestrator.cli.written import document_of
from orchestrator.cli.yaml_text import write_documents
from orchestrator.client import OrchestratorClient, each, messages

_Key = tuple[str, str]


def export(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which journeys.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them but the archived ones.")] = False,
    draft: Annotated[bool, typer.Option("--draft", help="Drafts, of those that have one.")] = False,
    version: Annotated[int | None, typer.Option(help="This version of the one journey.", min=1)] = None,
    form: FormOption = Form.WRITTEN,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", "-o", help="A file for each resource, in here; else all on stdout.", metavar="DIR"),
    ] = None,
) -> None:
    """Write journeys as YAML, with all that they name, so that `apply` finds nothing to change.

    Definitions are those of the newest versions, or the drafts of journeys that were never published; all else is as it
    is now. Members of lists are not written.
    """
    if bool(ids) == everything:
        raise CommandFailure("Name the journeys, or say --all.", USAGE)
    if version is not None and (draft or len(ids or ()) != 1):
        raise CommandFailure("A version is one of a single journey, and no draft.", USAGE)
    if str(directory) in {output.value for output in Output}:
        raise CommandFailure(f"This writes YAML, and -o names a directory: ./{directory} for one of that name.", USAGE)

    async def gather(client: OrchestratorClient) -> dict[_Key, Any]:
        found: dict[_Key, Any] = {}
        for journey_id in ids or await _all(client):
            # What a journey names stands in its steps.
            plain = await _journey(client, journey_id, Form.STEPS, draft=draft, number=version)
            shown = plain
            if form is not Form.STEPS:
                shown = await _journey(client, journey_id, form, draft=draft, number=version)
            found[JOURNEY.word, journey_id] = shown
            await _add_named(client, plain, f"journey {journey_id}", found)
        return found

    found = call(gather)
    kinds = {kind.word: kind for kind in KINDS}
    in_order = sorted(found, key=lambda key: (KINDS.index(kinds[key[0]]), key[1]))
    documents = {(word, one): document_of(kinds[word], found[word, one]) for word, one in in_order if found[word, one]}
    if directory is None:
        typer.echo(write_documents(documents.values()), nl=False)
        return
    for (word, one), document in documents.items():
        _write(directory / kinds[word].plural.replace(" ", "-") / f"{one}.yaml", write_documents([document]))
    typer.echo(f"{len(documents)} files are in {directory}; others that are there were left.", err=True)


async def _all(client: OrchestratorClient) -> list[str]:
    request = messages.ListJourneysRequest(page_size=1000)
    return [
        journey.id
        async for journey in each(client.journeys.ListJourneys, request)
        if journey.status != messages.Journey.STATUS_ARCHIVED
    ]


async def _journey(
    client: OrchestratorClient, journey_id: str, form: Form, *, draft: bool, number: int | None
) -> messages.Journey:
    """The journey with the definition that is asked for."""
    journey: messages.Journey = await JOURNEY.find(client, journey_id, form=number_of(form))
    if number is None and not draft and journey.HasField("latest_version"):
        number = journey.latest_version
    if number is not None:
        chosen = await find_version(client, journey_id, number, number_of(form))
        journey.definition.CopyFrom(chosen.definition)
    return journey


async def _add_named(client: OrchestratorClient, resource: Any, user: str, found: dict[_Key, Any]) -> None:
    """What a resource names, and what that names. None stands for what there is not, or is in every project."""
    for kind, ids in names_in(resource).items():
        for one in sorted(ids):
            if (kind.word, one) in found:
                continue
            named = await find(client, kind, one)
            if named is None:
                typer.echo(f"{user} names the {kind.word} {one}, which there is not.", err=True)
            is_given = kind is SEGMENT and named is not None and named.kind == messages.Segment.KIND_SYSTEM
            found[kind.word, one] = None if is_given else named
            if named is not None and not is_given:
                await _add_named(client, named, f"{kind.word} {one}", found)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailure(f"{path} cannot be written: {error.strerror}.", FAILED) from error
