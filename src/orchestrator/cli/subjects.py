from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.api.json_decode import decode
from orchestrator.api.json_encode import encode
from orchestrator.api.json_text import parse_json
from orchestrator.cli.connection import call
from orchestrator.cli.documents import sentence_of
from orchestrator.cli.erasures import until_done
from orchestrator.cli.failure import USAGE, CommandFailure
from orchestrator.cli.lines import in_batches, read_messages, require
from orchestrator.cli.output import Output, OutputOption, print_list, print_one
from orchestrator.cli.resources import Limit, first, page_size
from orchestrator.cli.subject_exports import export_file, write_export
from orchestrator.client import OrchestratorClient, each, messages
from orchestrator.predicates.faults import Wrong

app = typer.Typer(help="Write and look at subjects, and at what they refuse.", no_args_is_help=True)

SubjectId = Annotated[str, typer.Argument(metavar="SUBJECT_ID", help="Who.")]
Channel = Annotated[str, typer.Option(help="The channel; * for every one.")]

#: Of one call; far less than one may carry.
_BATCH = 500


@app.command()
def upsert(
    subject_id: Annotated[str, typer.Argument(metavar="SUBJECT_ID", help="Who, if it is one.")] = "",
    attributes: Annotated[str, typer.Option(help="A JSON object, merged into what is there.", metavar="JSON")] = "",
    time_zone: Annotated[str, typer.Option(help="Such as Europe/Berlin.")] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Many, one JSON object a line; - for stdin.", metavar="PATH"),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create subjects or change them: {"id", "attributes", "timeZone"}; what is not spoken of stays as it is."""
    if (file is None) == (not subject_id):
        raise CommandFailure("Name one subject, or give a file of them with --file.", USAGE)
    if file is None:
        subject = _subject(subject_id, attributes, time_zone)
        print_one(encode(call(lambda client: _upsert_one(client, subject))), output)
    else:
        print_one(encode(call(lambda client: _upsert_all(client, _sound(file)))), output)


@app.command("list")
def list_(limit: Limit = 100, output: OutputOption = Output.TABLE) -> None:
    """List subjects, newest first."""
    request = messages.ListSubjectsRequest(page_size=page_size(limit))
    found = call(lambda client: first(each(client.subjects.ListSubjects, request), limit))
    print_list(found, ("id", "attributes", "timeZone", "updatedAt"), output)


@app.command()
def get(subject_id: SubjectId, output: OutputOption = Output.TABLE) -> None:
    """Show one subject with its opt-outs and suppressions."""
    print_one(call(lambda client: _whole(client, subject_id)), output)


@app.command()
def delete(subject_id: SubjectId) -> None:
    """Delete a subject that travels nowhere."""
    request = messages.DeleteSubjectRequest(subject_id=subject_id)
    call(lambda client: client.subjects.DeleteSubject(request))
    typer.echo(f"Deleted subject {subject_id}.", err=True)


@app.command()
def forget(
    subject_id: SubjectId,
    wait: Annotated[bool, typer.Option("--wait", help="Until everything is erased; then show the receipt.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forget somebody for good: all of their ids are refused from now on, and everything about them is erased."""
    request = messages.ForgetSubjectRequest(subject_id=subject_id)
    erasure = call(lambda client: client.erasures.ForgetSubject(request)).erasure
    print_one(encode(until_done(erasure) if wait else erasure), output)


@app.command()
def merge(
    subject_id: SubjectId,
    into: Annotated[str, typer.Option(help="The subject that it is, too.", metavar="SUBJECT_ID")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Make one subject of two, for ever: it gets all that SUBJECT_ID has, and both ids name it."""
    request = messages.MergeSubjectsRequest(subject_id=subject_id, into_subject_id=into)
    print_one(encode(call(lambda client: client.subjects.MergeSubjects(request)).subject), output)


@app.command()
def opt_out(
    subject_id: SubjectId,
    channel: Channel = "*",
    category: Annotated[str, typer.Option(help="marketing or transactional; without it, both.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Opt in again.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write down that a subject does not want to be sent something. No send begins after that."""
    document = {"channel": channel, "optedOut": not undo} | ({"category": category} if category else {})
    change, faults = decode(messages.PreferenceChange, document)
    if faults:
        raise CommandFailure(f"--{faults[0].path}: {faults[0].message}.", USAGE)
    request = messages.UpdatePreferencesRequest(subject_id=subject_id, changes=[change])
    preferences = call(lambda client: client.subjects.UpdatePreferences(request)).preferences
    print_one(encode(preferences), output)


@app.command()
def suppress(
    subject_id: SubjectId,
    channel: Channel = "*",
    reason: Annotated[str, typer.Option(help="Why, such as bounced.")] = "manual",
    undo: Annotated[bool, typer.Option("--undo", help="Lift it.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let nothing be sent to a subject on a channel, whatever it is."""
    if undo:
        lift = messages.DeleteSuppressionRequest(subject_id=subject_id, channel=channel)
        call(lambda client: client.subjects.DeleteSuppression(lift))
        typer.echo(f"Lifted the suppression of {subject_id}.", err=True)
        return
    suppression = messages.Suppression(subject_id=subject_id, channel=channel, reason=reason)
    request = messages.CreateSuppressionRequest(suppression=suppression)
    print_one(encode(call(lambda client: client.subjects.CreateSuppression(request)).suppression), output)


@app.command()
def timeline(
    subject_id: Annotated[str, typer.Argument(metavar="ID", help="Whose.")],
    limit: Limit = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what happened to a subject, newest first: events, enrollments, visits, sends, ends, opt-outs."""
    request = messages.ListTimelineRequest(subject_id=subject_id, page_size=page_size(limit))
    found = call(lambda client: first(each(client.subjects.ListTimeline, request), limit))
    print_list(found, ("at", "kind", "journeyId", "stepId", "eventName", "channel", "result", "reason"), output)


@app.command()
def export(
    subject_id: Annotated[str, typer.Argument(metavar="ID", help="Who; any id of theirs.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to; without it, stdout.", metavar="FILE")
    ] = None,
) -> None:
    """Write everything that is kept about a person, as JSON: attributes, events with what they carry, journeys, sends.

    It is written into the audit log that this was done.
    """
    if str(output) in {one.value for one in Output}:
        raise CommandFailure(f"-o names a file: ./{output} for one of that name.", USAGE)
    with export_file(output) as file:
        count = call(lambda client: write_export(client, subject_id, file))
    typer.echo(f"Exported {count} records about {subject_id}.", err=True)


def _subject(subject_id: str, attributes: str, time_zone: str) -> messages.Subject:
    """Raises CommandFailure for attributes that are no JSON object."""
    try:
        document: dict[str, Any] = {"id": subject_id}
        if attributes:
            document["attributes"] = parse_json(attributes.encode(errors="surrogatepass"))
        if time_zone:
            document["timeZone"] = time_zone
        subject, faults = decode(messages.Subject, document)
    except Wrong as wrong:
        faults = [wrong.fault]
    if faults:
        raise CommandFailure("\n".join(sentence_of("--attributes", fault) for fault in faults), USAGE)
    return subject


async def _upsert_one(client: OrchestratorClient, subject: messages.Subject) -> messages.Subject:
    return (await client.subjects.UpsertSubject(messages.UpsertSubjectRequest(subject=subject))).subject


async def _upsert_all(
    client: OrchestratorClient, subjects: Iterator[tuple[int, messages.Subject]]
) -> messages.BatchUpsertSubjectsResponse:
    total = messages.BatchUpsertSubjectsResponse()
    for _, batch in in_batches(subjects, most=_BATCH):
        done = await client.subjects.BatchUpsertSubjects(messages.BatchUpsertSubjectsRequest(subjects=batch))
        total.created_count += done.created_count
        total.updated_count += done.updated_count
    return total


def _sound(file: Path) -> Iterator[tuple[int, messages.Subject]]:
    """The lines that are subjects, by their numbers. Raises CommandFailure at one that is none."""
    for number, read in read_messages(file, messages.Subject):
        yield number, require(file, number, read)


async def _whole(client: OrchestratorClient, subject_id: str) -> dict[str, Any]:
    subject = (await client.subjects.GetSubject(messages.GetSubjectRequest(subject_id=subject_id))).subject
    asked = messages.GetPreferencesRequest(subject_id=subject_id)
    preferences = (await client.subjects.GetPreferences(asked)).preferences
    suppressions: AsyncIterator[messages.Suppression] = each(
        client.subjects.ListSuppressions, messages.ListSuppressionsRequest(subject_id=subject_id)
    )
    return {
        **encode(subject),
        "optOuts": encode(preferences)["optOuts"],
        "suppressions": [encode(suppression) async for suppression in suppressions],
    }
