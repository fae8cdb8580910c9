from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.kinds import AUDIENCE
from orchestrator.cli.output import Output, OutputOption, print_one
from orchestrator.cli.resources import Id, noun
from orchestrator.client import messages

app = noun(AUDIENCE)


@app.command()
def check(
    audience_id: Id,
    subject_id: Annotated[str, typer.Argument(metavar="SUBJECT_ID", help="Who.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Say whether a subject belongs to an audience, and why."""
    request = messages.CheckAudienceRequest(audience_id=audience_id, subject_id=subject_id)
    print_one(encode(call(lambda client: client.audiences.CheckAudience(request))), output)


@app.command()
def estimate(audience_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Say how many subjects belong to an audience, and name some of them."""
    request = messages.EstimateAudienceRequest(audience_id=audience_id)
    print_one(encode(call(lambda client: client.audiences.EstimateAudience(request))), output)
