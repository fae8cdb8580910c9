from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.connection import call
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.output import Output, OutputOption, print_list
from orchestrator.cli.resources import Limit, first, page_size
from orchestrator.client import each, messages

app = typer.Typer(help="Hold sends, and let them go on.", no_args_is_help=True)

JourneyId = Annotated[str, typer.Argument(help="Those of this journey.", metavar="[JOURNEY]")]
All = Annotated[bool, typer.Option("--all", help="Those of all journeys.")]


@app.command()
def pause(journey_id: JourneyId = "", everything: All = False) -> None:
    """Hold the sends of a journey, or of all: who comes to one stands there until they are resumed."""
    whose = _whose(journey_id, everything)
    request = messages.PauseSendsRequest(journey_id=journey_id, all_journeys=everything)
    call(lambda client: client.sends_pauses.PauseSends(request))
    typer.echo(f"Paused the sends of {whose}.", err=True)


@app.command()
def resume(journey_id: JourneyId = "", everything: All = False) -> None:
    """Let the sends of a journey, or of all, go on."""
    whose = _whose(journey_id, everything)
    request = messages.ResumeSendsRequest(journey_id=journey_id, all_journeys=everything)
    call(lambda client: client.sends_pauses.ResumeSends(request))
    typer.echo(f"Resumed the sends of {whose}.", err=True)


@app.command("list")
def list_(limit: Limit = 100, output: OutputOption = Output.TABLE) -> None:
    """List what is paused; without a journey, it is everything."""
    request = messages.ListSendsPausesRequest(page_size=page_size(limit))
    found = call(lambda client: first(each(client.sends_pauses.ListSendsPauses, request), limit))
    print_list(found, ("journeyId", "pausedAt", "reason"), output)


def _whose(journey_id: str, everything: bool) -> str:
    """Who is meant, in words. Nothing is not everything."""
    if bool(journey_id) == everything:
        raise CommandFailure("name a journey, or give --all", USAGE)
    return journey_id or "all journeys"
