from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.connection import call
from orchestrator.cli.instants import instant
from orchestrator.cli.output import Output, OutputOption, print_json, print_list, print_one, print_table
from orchestrator.cli.resources import Id
from orchestrator.client import messages

app = typer.Typer(help="Look at the entries that journeys refused, and decide on them again.", no_args_is_help=True)

_COLUMNS = ("reason", "refusedCount", "replayableCount", "firstRefusedAt", "lastRefusedAt")

_JourneyId = Annotated[str, typer.Argument(metavar="JOURNEY_ID", help="Of this journey.")]
_After = Annotated[str, typer.Option(metavar="TIME", help="Refused then or later (RFC 3339); else in the last 7 days.")]
_Before = Annotated[str, typer.Option(metavar="TIME", help="Refused before then (RFC 3339); else until now.")]

#: Counting millions takes a while.
_PATIENCE = 60.0


@app.command("list")
def list_(
    journey_id: _JourneyId, after: _After = "", before: _Before = "", output: OutputOption = Output.TABLE
) -> None:
    """Say how many entries were refused, by reason, and how many of them can be decided on again."""
    request = messages.GetRefusedEntriesRequest(
        journey_id=journey_id, refused_after=instant(after), refused_before=instant(before)
    )
    found = call(lambda client: client.refused_entries.GetRefusedEntries(request, timeout=_PATIENCE))
    print_list([encode(refusal) for refusal in found.refusals], _COLUMNS, output)


@app.command()
def replay(
    journey_id: _JourneyId,
    reason: Annotated[str, typer.Option(help="Those that were refused for this reason, such as audience_not_found.")],
    after: _After = "",
    before: _Before = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, try the first, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Decide again on entries that were refused, as if they came now; how many there are is counted first."""
    request = messages.ReplayRefusedEntriesRequest(
        journey_id=journey_id, reason=reason, refused_after=instant(after), refused_before=instant(before)
    )
    rehearsal = messages.ReplayRefusedEntriesRequest()
    rehearsal.CopyFrom(request)
    rehearsal.validate_only = True
    counted = call(lambda client: client.refused_entries.ReplayRefusedEntries(rehearsal, timeout=_PATIENCE))
    if dry_run and output is Output.JSON:
        print_json(encode(counted))
        return
    if dry_run or not yes:
        again = [encode(refused) for refused in counted.tried_refused]
        typer.echo(
            f"{counted.count} entries. Of the first {counted.tried_count}, {counted.tried_enrolled_count} would be let "
            f"in{' and these refused again:' if again else '.'}",
            err=True,
        )
        if again and output is Output.TABLE:
            print_table(again, ("reason", "count"))
    if dry_run:
        return
    if not yes:
        typer.confirm(f"Decide again on {counted.count} entries of {journey_id}?", abort=True, err=True)
    request.at_most = counted.count
    done = call(lambda client: client.refused_entries.ReplayRefusedEntries(request, timeout=_PATIENCE))
    print_one(encode(done.replay), output)


@app.command()
def get(entry_replay_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show how far a replay has come."""
    request = messages.GetEntryReplayRequest(entry_replay_id=entry_replay_id)
    print_one(encode(call(lambda client: client.refused_entries.GetEntryReplay(request)).replay), output)


@app.command()
def cancel(entry_replay_id: Id, output: OutputOption = Output.TABLE) -> None:
    """End a replay where it stands: those it let in go on, and the others can be decided on another time."""
    request = messages.CancelEntryReplayRequest(entry_replay_id=entry_replay_id)
    print_one(encode(call(lambda client: client.refused_entries.CancelEntryReplay(request)).replay), output)
