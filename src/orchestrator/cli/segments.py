from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.connection import call
from orchestrator.cli.kinds import SEGMENT
from orchestrator.cli.output import Output, OutputOption, print_list
from orchestrator.cli.resources import Id, Limit, first, page_size, reading
from orchestrator.cli.subject_ids import SubjectIds, SubjectIdsFile, batches, read_subject_ids
from orchestrator.client import OrchestratorClient, each, messages

app = reading(SEGMENT)


@app.command()
def delete(
    segment_id: Id,
    force: Annotated[bool, typer.Option("--force", help="Also while audiences or journeys name it.")] = False,
) -> None:
    """Delete a segment."""
    call(lambda client: SEGMENT.delete(client, segment_id, force=force))
    typer.echo(f"Deleted segment {segment_id}.", err=True)


@app.command()
def evaluate(segment_id: Id) -> None:
    """Have everybody held against a segment's rules now. Its lastEvaluatedAt rises when that is done."""
    request = messages.EvaluateSegmentRequest(segment_id=segment_id)
    run_id = call(lambda client: client.segments.EvaluateSegment(request)).run_id
    typer.echo(f"Evaluation {run_id} of segment {segment_id} is under way.", err=True)


@app.command()
def members(
    segment_id: Id,
    limit: Limit = 100,
    ids: Annotated[
        bool, typer.Option("--ids", help="The ids of all of them, one a line, as `add --file` takes them.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List who is in a segment."""
    request = messages.ListSegmentMembersRequest(segment_id=segment_id, page_size=1000 if ids else page_size(limit))

    async def tell_ids(client: OrchestratorClient) -> None:
        async for member in each(client.segments.ListSegmentMembers, request):
            typer.echo(member.subject_id)

    if ids:
        call(tell_ids)
        return
    found = call(lambda client: first(each(client.segments.ListSegmentMembers, request), limit))
    print_list(found, ("subjectId", "addedAt"), output)


@app.command()
def add(segment_id: Id, subject_ids: SubjectIds = None, file: SubjectIdsFile = None) -> None:
    """Put subjects into a static segment; unknown ones are created."""
    ids = read_subject_ids(subject_ids, file)

    async def add_all(client: OrchestratorClient) -> int:
        return sum([
            (
                await client.segments.AddSegmentMembers(
                    messages.AddSegmentMembersRequest(segment_id=segment_id, subject_ids=batch)
                )
            ).added_count
            for batch in batches(ids)
        ])  # fmt: skip

    typer.echo(f"{call(add_all)} added.", err=True)


@app.command()
def remove(segment_id: Id, subject_ids: SubjectIds = None, file: SubjectIdsFile = None) -> None:
    """Take subjects out of a static segment."""
    ids = read_subject_ids(subject_ids, file)

    async def remove_all(client: OrchestratorClient) -> int:
        return sum([
            (
                await client.segments.RemoveSegmentMembers(
                    messages.RemoveSegmentMembersRequest(segment_id=segment_id, subject_ids=batch)
                )
            ).removed_count
            for batch in batches(ids)
        ])  # fmt: skip

    typer.echo(f"{call(remove_all)} removed.", err=True)
