from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.failure import FAILED, CommandFailure
from orchestrator.cli.kinds import COMMUNICATION
from orchestrator.cli.output import Output, OutputOption, print_json, print_one, print_table
from orchestrator.cli.resources import Id, noun
from orchestrator.client import OrchestratorClient, messages

app = noun(COMMUNICATION)

#: Seconds between two looks at a test.
_EVERY = 0.5


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


@app.command("send-test")
def send_test(
    communication_id: Id,
    to: Annotated[list[str], typer.Option(metavar="ADDRESS", help="To this address, or to these: 10 at most.")],
    subject: Annotated[str, typer.Option(metavar="SUBJECT_ID", help="With whose attributes; else with none.")] = "",
    revision: Annotated[int, typer.Option(help="Which revision; without, the newest.", min=0)] = 0,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="For how long to wait.", min=0)] = 30.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a communication to given addresses, marked as a test, and wait for what becomes of it."""
    request = messages.SendTestCommunicationRequest(
        communication_id=communication_id, content_revision=revision, subject_id=subject, addresses=to
    )
    test = call(lambda client: _sent(client, request, wait))
    if output is Output.JSON:
        print_json(encode(test))
    else:
        rows = [{"address": address, **encode(result)} for address, result in zip(to, test.results, strict=True)]
        print_table(rows, ("address", "state", "reason"))
    if not test.HasField("end_time"):
        raise CommandFailure(f"test {test.id} is still on its way: see that workers run", FAILED)
    if any(result.state != "sent" for result in test.results):
        raise CommandFailure("not every address was sent it", FAILED)


async def _sent(
    client: OrchestratorClient, request: messages.SendTestCommunicationRequest, wait: float
) -> messages.TestSend:
    """The test, when it has ended, or after so many seconds."""
    test = (await client.communications.SendTestCommunication(request)).test_send
    until = asyncio.get_running_loop().time() + wait
    while not test.HasField("end_time") and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(_EVERY)
        test = (await client.communications.GetTestSend(messages.GetTestSendRequest(test_send_id=test.id))).test_send
    return test
