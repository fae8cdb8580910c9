from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.output import (
    Output,
    OutputOption,
    console,
    print_json,
    print_list,
    print_one,
    print_table,
    text_of,
)
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.client import each, messages
from orchestrator.domain.durations import parse_duration

app = typer.Typer(help="Look at executions: who travels, where they stand and why; and end them.", no_args_is_help=True)

_COLUMNS = ("id", "journeyId", "version", "endUserId", "status", "outcome", "currentStepId", "startedAt", "endedAt")
_VISITS = ("seq", "stepId", "stepKind", "result", "reason", "enteredAt", "leftAt")
_SENDS = ("seq", "stepId", "communicationId", "contentRevision", "channel", "state", "attempt", "reason", "settledAt")
_CALLS = ("seq", "stepId", "state", "attempt", "status", "reason", "hasAnswer", "reservedAt", "settledAt")
#: What an execution has done: member, title, columns.
_DEEDS = (("visits", "visits", _VISITS), ("sends", "sends", _SENDS), ("webhookCalls", "webhook calls", _CALLS))
_STUCK = ("id", "journeyId", "endUserId", "currentStepId", "cause", "dueAt", "startedAt")

#: Counting millions takes a while.
_PATIENCE = 60.0


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
    """Show one execution with its visits, sends and calls of webhooks."""
    request = messages.GetExecutionRequest(execution_id=execution_id)
    execution = encode(call(lambda client: client.executions.GetExecution(request)).execution)
    if output is Output.JSON:
        print_json(execution)
        return
    deeds = {name: execution.pop(name, []) for name, _, _ in _DEEDS}
    print_one(execution, output)
    _print_deeds(deeds)


def _print_deeds(execution: Mapping[str, Any]) -> None:
    for name, title, columns in _DEEDS:
        if execution.get(name):
            print_table(execution[name], columns, title=f"\n{title}")


@app.command()
def explain(execution_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Say where an execution stands and why: what it waits for, what stopped it, when it looks again."""
    request = messages.ExplainExecutionRequest(execution_id=execution_id)
    told = encode(call(lambda client: client.executions.ExplainExecution(request)).explanation)
    if output is Output.JSON:
        print_json(told)
        return
    execution = told.pop("execution")
    console().print(text_of(told.pop("summary")), soft_wrap=True)
    print_one(told, output)
    _print_deeds(execution)


@app.command()
def stuck(
    journey_id: Annotated[str, typer.Argument(metavar="JOURNEY_ID", help="Of this journey.")] = "",
    overdue_by: Annotated[
        str, typer.Option(help="For how long they should have gone on, such as 90m; else 1m, and 5m for sends.")
    ] = "",
    limit: Limit = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List running executions that should have gone on and have not."""
    request = messages.ListStuckExecutionsRequest(journey_id=journey_id, page_size=page_size(limit))
    if overdue_by:
        request.overdue_by.CopyFrom(_duration(overdue_by))
    found = call(lambda client: first(each(client.executions.ListStuckExecutions, request), limit))
    if output is Output.JSON:
        print_json(found)
        return
    print_table([{**one.pop("execution"), **one} for one in found], _STUCK)


@app.command()
def cancel(
    execution_id: Annotated[str, typer.Argument(metavar="[ID]", help="One execution.")] = "",
    journey_id: Annotated[str, typer.Option("--journey", help="Many of this journey, by the options below.")] = "",
    everybody: Annotated[bool, typer.Option("--all", help="All that run.")] = False,
    version: Annotated[int | None, typer.Option(help="On this version.", min=1)] = None,
    step_ids: Annotated[list[str] | None, typer.Option("--step", help="On this step, or on one of these.")] = None,
    subject_ids: Annotated[list[str] | None, typer.Option("--subject", help="Of this subject, or of these.")] = None,
    started_after: Annotated[str, typer.Option(metavar="TIME", help="Started then or later (RFC 3339).")] = "",
    started_before: Annotated[str, typer.Option(metavar="TIME", help="Started before then (RFC 3339).")] = "",
    parked: Annotated[bool, typer.Option("--parked", help="That cannot go on.")] = False,
    reason: Annotated[str, typer.Option(help="What they record, written like an id, such as wrong-price.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """End an execution where it stands, or many of a journey; what many are is counted first."""
    chosen = messages.ExecutionFilter(
        all=everybody,
        version=version or 0,
        step_ids=step_ids or [],
        subject_ids=subject_ids or [],
        started_after=_instant(started_after) if started_after else None,
        started_before=_instant(started_before) if started_before else None,
        parked=parked,
    )
    if bool(execution_id) == bool(journey_id):
        raise CommandFailure("Name an execution, or a journey with --journey.", USAGE)
    if execution_id:
        if chosen != messages.ExecutionFilter():
            raise CommandFailure("The options that choose executions go with --journey.", USAGE)
        _cancel_one(execution_id, reason, dry_run=dry_run, output=output)
    else:
        request = messages.CancelExecutionsRequest(journey_id=journey_id, filter=chosen, reason=reason)
        _cancel_many(request, dry_run=dry_run, yes=yes, output=output)


def _cancel_one(execution_id: str, reason: str, *, dry_run: bool, output: Output) -> None:
    request = messages.CancelExecutionRequest(execution_id=execution_id, reason=reason, validate_only=dry_run)
    print_one(encode(call(lambda client: client.executions.CancelExecution(request)).execution), output)


def _cancel_many(request: messages.CancelExecutionsRequest, *, dry_run: bool, yes: bool, output: Output) -> None:
    rehearsal = messages.CancelExecutionsRequest()
    rehearsal.CopyFrom(request)
    rehearsal.validate_only = True
    counted = call(lambda client: client.executions.CancelExecutions(rehearsal, timeout=_PATIENCE))
    if dry_run:
        if output is Output.JSON:
            print_json(encode(counted))
        else:
            print_table([encode(step) for step in counted.steps], ("stepId", "count"))
            typer.echo(f"{counted.count} executions would be canceled.", err=True)
        return
    if not yes:
        if output is Output.TABLE:
            print_table([encode(step) for step in counted.steps], ("stepId", "count"))
        typer.confirm(f"Cancel {counted.count} executions of {request.journey_id}?", abort=True, err=True)
    request.at_most = counted.count
    done = call(lambda client: client.executions.CancelExecutions(request, timeout=_PATIENCE))
    print_one(encode(done.cancellation), output)


@app.command()
def cancellation(cancellation_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show how far the canceling of many executions has come."""
    request = messages.GetCancellationRequest(cancellation_id=cancellation_id)
    print_one(encode(call(lambda client: client.executions.GetCancellation(request)).cancellation), output)


def _instant(text: str) -> Timestamp:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailure(f"{text} is no time: write 2026-05-01T12:00:00Z.", USAGE) from None
    message = Timestamp()
    message.FromDatetime(instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC))
    return message


def _duration(text: str) -> Duration:
    try:
        length = parse_duration(text)
    except ValueError as error:
        raise CommandFailure(f"{text} is no duration: {error}.", USAGE) from None
    message = Duration()
    message.FromTimedelta(length)
    return message
