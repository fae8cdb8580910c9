from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.kinds import COMMUNICATION
from orchestrator.cli.output import Output, OutputOption, print_one
from orchestrator.cli.resources import Id, noun
from orchestrator.client import messages

app = noun(COMMUNICATION)


@app.command()
def preview(
    communication_id: Id,
    subject: Annotated[str, typer.Option(metavar="SUBJECT_ID", help="To whom; without, to somebody unknown.")] = "",
    revision: Annotated[int, typer.Option(help="Which revision; without, the newest.", min=0)] = 0,
    show_values: Annotated[bool, typer.Option("--show-values", help="Show what is known of the subject.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a communication would say. Nobody is sent anything."""
    request = messages.PreviewCommunicationRequest(
        communication_id=communication_id,
        content_revision=revision,
        subject_id=subject,
        show_values=show_values,
    )
    print_one(encode(call(lambda client: client.communications.PreviewCommunication(request))), output)
