"""`journeys publish`, and what becomes of the executions that are under way."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call, sentence_of
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.output import Output, OutputOption, print_json, print_list, print_one, print_table
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.client import Violation, each, messages

_PLACES = ("version", "stepId", "stepKind", "count", "toStepId", "stays", "arrivesAnew", "overAtOnceCount",
           "expiredAtOnceCount")  # fmt: skip

#: Seconds for a preview, and for publishing: those under way are counted.
_PATIENCE = 60.0


class Carry(Enum):
    NONE = "none"
    COMPATIBLE = "compatible"
    MAPPED = "mapped"


def publish(
    journey_id: Id,
    from_version: Annotated[
        int | None, typer.Option(help="Go back: make this earlier version anew, and leave the draft alone.", min=1)
    ] = None,
    newest_texts: Annotated[
        bool, typer.Option("--newest-texts", help="With the texts of now, not those that version sent.")
    ] = False,
    carry: Annotated[
        Carry,
        typer.Option(help="Which executions under way go over to it: those whose step is the same, or is mapped."),
    ] = Carry.NONE,
    steps: Annotated[
        list[str] | None, typer.Option("--map", metavar="OLD=NEW", help="What has become of a step; with mapped.")
    ] = None,
    token: Annotated[str, typer.Option(help="What a preview gave: nothing is shown and nobody is asked again.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Check all of it and change nothing.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make the draft a version that never changes, and that everybody takes who comes in from now on.

    With --carry it shows first what would become of the executions under way, and asks; --validate-only ends there.
    """
    if newest_texts and from_version is None:
        raise CommandFailure(
            "A draft is always published with the newest texts: name the version to go back to.", USAGE
        )
    if carry is Carry.NONE and (steps or token):
        raise CommandFailure("--map and --token go with --carry.", USAGE)
    request = messages.PublishJourneyRequest(
        journey_id=journey_id, from_version=from_version, validate_only=validate_only, token=token
    )
    if newest_texts:
        request.pins = messages.PublishJourneyRequest.PINS_NEWEST
    if carry is not Carry.NONE:
        request.carry = messages.CarryMode.Value(f"CARRY_MODE_{carry.name}")
        request.step_mapping.extend(_mapping(step) for step in steps or [])
    if carry is not Carry.NONE and not token:
        preview = _preview(request)
        if validate_only:
            _show(preview, output)
            return
        if not yes:
            _show(preview, Output.TABLE)
            question = f"Publish {journey_id} v{preview.version} and carry {preview.carried_count} executions over?"
            typer.confirm(question, abort=True, err=True)
        request.token = preview.token
    published = call(lambda client: client.journeys.PublishJourney(request, timeout=_PATIENCE))
    _warn(published.warnings)
    made = {"id": published.id, "version": published.version}
    if published.HasField("carry"):
        made["carry"] = encode(published.carry)
    print_one(made, output)


def list_carries(journey_id: Id, limit: Limit = 50, output: OutputOption = Output.TABLE) -> None:
    """List the versions to which executions were carried over, and how far that has come."""
    request = messages.ListCarriesRequest(journey_id=journey_id, page_size=page_size(limit))
    found = call(lambda client: first(each(client.journeys.ListCarries, request), limit))
    columns = ("version", "mode", "matchedCount", "carriedCount", "pendingCount", "stayed", "requestedAt", "endedAt")
    print_list(found, columns, output)


def show_carry(
    journey_id: Id,
    version: Annotated[int, typer.Argument(min=1, help="To which version.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how far the carrying over of executions to a version has come."""
    request = messages.GetCarryRequest(journey_id=journey_id, version=version)
    print_one(encode(call(lambda client: client.journeys.GetCarry(request)).carry), output)


def _preview(request: messages.PublishJourneyRequest) -> messages.PreviewCarryResponse:
    asked = messages.PreviewCarryRequest(
        journey_id=request.journey_id, carry=request.carry, step_mapping=request.step_mapping, pins=request.pins
    )
    if request.HasField("from_version"):
        asked.from_version = request.from_version
    return call(lambda client: client.journeys.PreviewCarry(asked, timeout=_PATIENCE))


def _show(preview: messages.PreviewCarryResponse, output: Output) -> None:
    if output is Output.JSON:
        print_json(encode(preview))
        return
    print_table([encode(place) for place in preview.places], _PLACES)
    _warn(preview.warnings)
    typer.echo(f"{preview.carried_count} would go over to v{preview.version}, {preview.staying_count} stay.", err=True)
    typer.echo(f"--token {preview.token}", err=True)


def _warn(warnings: Iterable[messages.Violation]) -> None:
    for warning in warnings:
        told = sentence_of(Violation(warning.path, warning.reason, warning.message))
        typer.echo(f"warning: {told}", err=True)


def _mapping(step: str) -> messages.StepMapping:
    old, equals, new = step.partition("=")
    if not (old and equals and new):
        raise CommandFailure(f"{step} says nothing of a step: write --map old=new.", USAGE)
    return messages.StepMapping(from_step_id=old, to_step_id=new)
