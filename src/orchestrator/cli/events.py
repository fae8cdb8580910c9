from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.api.json_enums import words
from orchestrator.cli.connection import call
from orchestrator.cli.documents import sentence_of
from orchestrator.cli.failure import FAILED
from orchestrator.cli.files import STDIN
from orchestrator.cli.lines import in_batches, read_messages
from orchestrator.cli.output import Output, OutputOption, print_one
from orchestrator.client import OrchestratorClient, messages
from orchestrator.predicates.faults import Fault

app = typer.Typer(help="Send events.", no_args_is_help=True)

#: As many as one call takes.
_BATCH = 1000

_STATUSES = words(messages.EventResult.Status.DESCRIPTOR)
_REJECTED = _STATUSES[messages.EventResult.STATUS_REJECTED]


@app.command()
def send(
    file: Annotated[Path, typer.Argument(help="One JSON object a line; - for stdin.")] = STDIN,
    backfill: Annotated[bool, typer.Option("--backfill", help="They are history: nobody travels for them.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send events in the order in which they stand: {"eventId", "name", "subjectId", "occurTime", "properties"}.

    What was sent before is recognized by its eventId. Lines that are refused are told on stderr; then the exit code
    is 1.
    """
    counts = Counter(dict.fromkeys(_STATUSES.values(), 0))
    call(lambda client: _send(client, file, backfill, counts))
    print_one(dict(counts), output)
    if counts[_REJECTED]:
        raise typer.Exit(FAILED)


async def _send(client: OrchestratorClient, file: Path, backfill: bool, counts: Counter[str]) -> None:
    for numbers, events in in_batches(_sound(file, counts), most=_BATCH):
        request = messages.IngestEventsRequest(events=events, backfill=backfill)
        answer = await client.events.IngestEvents(request)
        for result in answer.results:
            counts[_STATUSES[result.status]] += 1
            own = f"events[{result.index}]"
            faults = [
                Fault(path=v.path.removeprefix(own).lstrip("."), reason=v.reason, message=v.message)
                for v in result.violations
            ]
            _tell(file, numbers[result.index], faults)


def _sound(file: Path, counts: Counter[str]) -> Iterator[tuple[int, messages.Event]]:
    """The lines that are events, by their numbers. Those that are none are counted and told."""
    for number, read in read_messages(file, messages.Event):
        if isinstance(read, list):
            counts[_REJECTED] += 1
            _tell(file, number, read)
        else:
            yield number, read


def _tell(file: Path, number: int, faults: list[Fault]) -> None:
    for fault in faults:
        typer.echo(sentence_of(f"{file}, line {number}", fault), err=True)
