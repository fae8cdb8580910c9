"""`apply`: makes what is there equal to what documents say, and says what it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from grpc import StatusCode

from orchestrator.api.field_masks import json_path
from orchestrator.cli.connection import call, sentence_of
from orchestrator.cli.documents import Document, read_documents
from orchestrator.cli.failure import CommandFailure
from orchestrator.cli.kinds import JOURNEY, SEGMENT
from orchestrator.cli.output import Output, OutputOption, print_list
from orchestrator.client import OrchestratorClient, OrchestratorError, Violation, messages

_COLUMNS = ("kind", "id", "action", "fields", "version")


@dataclass(slots=True, kw_only=True)
class Change:
    """What is to be done about a document. `found` None: the resource is not there. `paths`: what differs."""

    document: Document
    found: Any | None
    paths: tuple[str, ...]
    published: int | None = None

    @property
    def is_needed(self) -> bool:
        return self.found is None or bool(self.paths)

    def told(self) -> dict[str, Any]:
        action = "created" if self.found is None else "updated" if self.paths else "unchanged"
        told: dict[str, Any] = {"kind": self.document.kind.word, "id": self.document.id, "action": action}
        if action == "updated":
            told["fields"] = ", ".join(json_path(self.document.resource.DESCRIPTOR, path) for path in self.paths)
        if self.published is not None:
            told["action"] = "published" if action == "unchanged" else f"{action}, published"
            told["version"] = self.published
        return told


def apply(
    files: Annotated[
        list[Path],
        typer.Option("--file", "-f", help="YAML or JSON; a directory for all in it, - for stdin.", metavar="PATH"),
    ],
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
    changes = [await _change(client, document) for document in documents]
    await _check(client, changes)
    if validate_only:
        return
    for change in changes:
        if change.is_needed:
            await _make(client, change)
        done.append(change)
    if publish:
        for change in changes:
            if change.document.kind is JOURNEY:
                change.published = await _publish(client, change.document)


async def _change(client: OrchestratorClient, document: Document) -> Change:
    try:
        found = await document.kind.find(client, document.id)
    except OrchestratorError as error:
        if error.code is StatusCode.NOT_FOUND:
            return Change(document=document, found=None, paths=())
        raise
    paths = tuple(path for path in document.paths if _at(document.resource, path) != _at(found, path))
    return Change(document=document, found=found, paths=paths)


def _at(resource: Any, path: str) -> Any:
    for name in path.split("."):
        resource = getattr(resource, name)
    return resource


async def _make(client: OrchestratorClient, change: Change, *, validate_only: bool = False) -> None:
    document = change.document
    if change.found is None:
        await document.kind.create(client, document.resource, validate_only=validate_only)
        return
    document.resource.etag = change.found.etag
    await document.kind.update(client, document.resource, change.paths, validate_only=validate_only)


async def _check(client: OrchestratorClient, changes: Iterable[Change]) -> None:
    """Have the server look at every change. Raises CommandFailure with all that it has against any of them."""
    changes = list(changes)
    coming = {c.document.id for c in changes if c.document.kind is SEGMENT and c.found is None}
    wrong: list[str] = []
    for change in changes:
        if not change.is_needed:
            continue
        try:
            await _make(client, change, validate_only=True)
        except OrchestratorError as error:
            if error.code not in (StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION, StatusCode.ABORTED):
                raise
            violations = [v for v in error.violations if not _is_coming(v, change.document.body, coming)]
            if not error.violations:
                wrong.append(f"{change.document}: {error.message} ({error.reason})")
            wrong += [f"{change.document}: {sentence_of(violation)}" for violation in violations]
    if wrong:
        raise CommandFailure("\n".join(["Nothing was changed.", *wrong]))


def _is_coming(violation: Violation, body: dict[str, Any], coming: set[str]) -> bool:
    """Whether what is missing is a segment that another document is about to create."""
    if violation.reason not in ("COHORT_NOT_FOUND", "SEGMENT_NOT_FOUND"):
        return False
    value: Any = body
    for part in violation.path.replace("[", ".").replace("]", "").split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value in coming


async def _publish(client: OrchestratorClient, document: Document) -> int | None:
    """The version that was made; None when the newest one is what the draft says, or says without one."""
    journey = await JOURNEY.find(client, document.id)
    if not journey.has_draft and journey.status == messages.Journey.STATUS_ARCHIVED:
        return None
    if journey.has_draft and journey.HasField("latest_version"):
        request = messages.GetJourneyVersionRequest(journey_id=journey.id, version=journey.latest_version)
        newest = (await client.journeys.GetJourneyVersion(request)).version
        if newest.definition == journey.definition:
            return None
    try:
        published = await client.journeys.PublishJourney(
            messages.PublishJourneyRequest(journey_id=journey.id, etag=journey.etag)
        )
    except OrchestratorError as error:
        if error.reason == "NO_DRAFT":  # and none of its communications says anything new
            return None
        raise
    for warning in published.warnings:
        typer.echo(f"{document}: {sentence_of(Violation(warning.path, warning.reason, warning.message))}", err=True)
    return published.version
