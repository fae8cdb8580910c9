from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.output import Output, OutputOption, print_json, print_list, print_one, print_table
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.client import each, messages

app = typer.Typer(help="Look at executions: who travels, and where they stand.", no_args_is_help=True)

_COLUMNS = ("id", "journeyId", "version", "endUserId", "status", "outcome", "currentStepId", "startedAt", "endedAt")
_VISITS = ("seq", "stepId", "stepKind", "result", "reason", "enteredAt", "leftAt")
_SENDS = ("seq", "stepId", "communicationId", "contentRevision", "channel", "state", "attempt", "reason", "settledAt")


@app.command("list")
def list_(
    journey_id: Annotated[str, typer.Argument(metavar="JOURNEY_ID", help="Of this journey.")] = "",
    subject_id: Annotated[str, typer.Option("--subject", help="Of this subject.")] = "",
    limit: Limit = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List executions, newest first."""
    request = messages.ListExecutionsRequest(journey_id=journey_id, subject_id=subject_id, page_size=page_size(limit))
    found = call(lambda client: first(each(client.executions.ListExecutions, request), limit))
    print_list(found, _COLUMNS, output)


@app.command()
def get(execution_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show one execution with its visits and sends."""
    request = messages.GetExecutionRequest(execution_id=execution_id)
    execution = encode(call(lambda client: client.executions.GetExecution(request)).execution)
    if output is Output.JSON:
        print_json(execution)
        return
    parts = (("visits", _VISITS), ("sends", _SENDS))
    rows = {name: execution.pop(name, []) for name, _ in parts}
    print_one(execution, output)
    for name, columns in parts:
        if rows[name]:
            print_table(rows[name], columns, title=f"\n{name}")
