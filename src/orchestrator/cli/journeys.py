from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from orchestrator.api.json_encode import encode
from orchestrator.cli.apply import apply
from orchestrator.cli.arms import arms, choices
from orchestrator.cli.backtest import backtest
from orchestrator.cli.connection import call, sentence_of
from orchestrator.cli.diff import diff
from orchestrator.cli.documents import look_through
from orchestrator.cli.failure import FAILED, USAGE, CommandFailure
from orchestrator.cli.files import FilesOrNone
from orchestrator.cli.forms import Form, FormOption, number_of
from orchestrator.cli.impact import impact, plan
from orchestrator.cli.jobs import follow
from orchestrator.cli.journey_export import export
from orchestrator.cli.kinds import JOURNEY
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
from orchestrator.cli.publishing import list_carries, publish, show_carry
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.cli.simulation import simulate
from orchestrator.cli.subject_ids import SubjectIds, SubjectIdsFile, batches, read_subject_ids
from orchestrator.cli.validation import examine
from orchestrator.client import OrchestratorClient, Violation, each, messages

app = typer.Typer(help="Keep journeys in files, publish them, run them, look at them.", no_args_is_help=True)


@app.command()
def get(resource_id: Id, form: FormOption = Form.WRITTEN, output: OutputOption = Output.TABLE) -> None:
    """Show one of the journeys, whole."""
    print_one(encode(call(lambda client: JOURNEY.find(client, resource_id, form=number_of(form)))), output)


class Status(Enum):
    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option(help="Only those.")] = None,
    limit: Limit = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """List journeys, newest first."""
    request = messages.ListJourneysRequest(page_size=page_size(limit))
    if status is not None:
        request.status = messages.Journey.Status.Value(f"STATUS_{status.name}")
    found = call(lambda client: first(each(client.journeys.ListJourneys, request), limit))
    print_list(found, JOURNEY.columns, output)


@app.command()
def validate(
    journey_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Which.")] = None,
    files: FilesOrNone = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are faults.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what stands against publishing a draft, or the journeys of files; exit code 1 if anything does.

    With files it says everything that stands against `apply`, as if all that the files describe were there already, and
    changes nothing.
    """
    if (journey_id is None) == (files is None):
        raise CommandFailure("Name a journey, or files with -f.", USAGE)
    if journey_id is not None:
        request = messages.ValidateJourneyRequest(journey_id=journey_id)
        answer = call(lambda client: client.journeys.ValidateJourney(request))
        told = encode(answer)
        lines = {"fault": map(_told, answer.faults), "warning": map(_told, answer.warnings)}
    else:
        documents = look_through(files or [])
        findings = call(lambda client: examine(client, documents))
        found = {"fault": findings.faults, "warning": findings.warnings}
        told = {f"{kind}s": [finding.told() for finding in some] for kind, some in found.items()}
        lines = {kind: map(str, some) for kind, some in found.items()}
    if output is Output.JSON:
        print_json(told)
    else:
        for kind, some in lines.items():
            for line in some:
                console().print(text_of(f"{kind}: {line}"), soft_wrap=True)
    raise typer.Exit(FAILED if told["faults"] or (strict and told["warnings"]) else 0)


app.command("diff")(diff)
app.command("apply")(apply)
app.command("export")(export)
app.command()(publish)
app.command("carries")(list_carries)
app.command("carry")(show_carry)


@app.command()
def pause(journey_id: Id) -> None:
    """Let nobody in any more; running executions go on."""
    call(lambda client: client.journeys.PauseJourney(messages.PauseJourneyRequest(journey_id=journey_id)))
    typer.echo(f"Paused {journey_id}.", err=True)


@app.command()
def resume(journey_id: Id) -> None:
    """Let subjects in again."""
    call(lambda client: client.journeys.ResumeJourney(messages.ResumeJourneyRequest(journey_id=journey_id)))
    typer.echo(f"Resumed {journey_id}.", err=True)


@app.command()
def learn(journey_id: Id) -> None:
    """Put what a journey's branches have learned to use now, and not within the hour."""
    request = messages.StartPolicyUpdateRequest(journey_id=journey_id)
    step_ids = call(lambda client: client.journeys.StartPolicyUpdate(request)).step_ids
    typer.echo(f"The policies of {', '.join(step_ids)} are being made anew.", err=True)


@app.command()
def archive(
    journey_id: Id,
    end: Annotated[bool, typer.Option("--end", help="End running executions where they stand.")] = False,
    yes: Yes = False,
) -> None:
    """End a journey for ever; its record is kept."""
    on_archive = messages.ON_ARCHIVE_END if end else messages.ON_ARCHIVE_FINISH

    async def ask(client: OrchestratorClient, *, validate_only: bool) -> messages.ArchiveJourneyResponse:
        return await client.journeys.ArchiveJourney(
            messages.ArchiveJourneyRequest(journey_id=journey_id, on_archive=on_archive, validate_only=validate_only)
        )

    if not yes:
        running = call(lambda client: ask(client, validate_only=True)).running_executions
        fate = "will be ended" if end else "will go on to their end"
        typer.confirm(
            f"{running} executions are running and {fate}. Archive {journey_id} for ever?", abort=True, err=True
        )
    running = call(lambda client: ask(client, validate_only=False)).running_executions
    fate = "were ended" if end else "go on to their end"
    typer.echo(f"Archived {journey_id}; {running} executions {fate}.", err=True)


@app.command()
def delete(
    journey_id: Id,
    force: Annotated[bool, typer.Option("--force", help="Also while executions run, which end with it.")] = False,
    yes: Yes = False,
) -> None:
    """Delete a journey."""
    if not yes:
        typer.confirm(f"Delete {journey_id}?", abort=True, err=True)
    call(lambda client: JOURNEY.delete(client, journey_id, force=force))
    typer.echo(f"Deleted journey {journey_id}.", err=True)


@app.command()
def enroll(
    journey_id: Id, subject_ids: SubjectIds = None, file: SubjectIdsFile = None, output: OutputOption = Output.TABLE
) -> None:
    """Take subjects in by hand; unknown ones are created."""
    ids = read_subject_ids(subject_ids, file)

    async def enroll_all(client: OrchestratorClient) -> messages.EnrollSubjectsResponse:
        total = messages.EnrollSubjectsResponse()
        for batch in batches(ids):
            answer = await client.journeys.EnrollSubjects(
                messages.EnrollSubjectsRequest(journey_id=journey_id, subject_ids=batch)
            )
            total.journey_id, total.journey_name = answer.journey_id, answer.journey_name
            total.enrolled += answer.enrolled
            total.skipped += answer.skipped
            total.errors += answer.errors
            total.failed_subject_ids.extend(answer.failed_subject_ids)
            total.total += answer.total
            for reason, count in answer.refused.items():
                total.refused[reason] += count
        return total

    print_one(encode(call(enroll_all)), output)


@app.command("enroll-all")
def enroll_all(
    journey_id: Id,
    audience: Annotated[str, typer.Option(metavar="ID", help="Those who belong to this audience.")] = "",
    segment: Annotated[str, typer.Option(metavar="ID", help="Those who are in this segment.")] = "",
    everyone: Annotated[bool, typer.Option("--everyone", help="Every subject of the project.")] = False,
    rate: Annotated[
        int | None, typer.Option(min=1, help="So many a second; as many as hold up nobody else, if left out.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show how it gets on, until it has ended.")] = True,
) -> None:
    """Take a whole crowd in, in the background: its job goes on whoever watches it (`orchestrator jobs`)."""
    job = messages.EnrollmentJob(
        journey_id=journey_id, audience_id=audience, segment_id=segment, everyone=everyone, rate_per_second=rate
    )
    request = messages.CreateEnrollmentJobRequest(enrollment_job=job)
    job_id = call(lambda client: client.enrollment_jobs.CreateEnrollmentJob(request)).enrollment_job.id
    typer.echo(job_id)
    if wait:
        follow(job_id)


@app.command()
def explain(
    journey_id: Id,
    subject_id: Annotated[str, typer.Argument(metavar="SUBJECT_ID", help="Who.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Say whether a subject would be let in at this moment, by each way in, and why."""
    request = messages.ExplainEntryRequest(journey_id=journey_id, subject_id=subject_id)
    told = encode(call(lambda client: client.journeys.ExplainEntry(request)).explanation)
    if output is Output.JSON:
        print_json(told)
        return
    ways, events, held, earlier = (told.pop(name, []) for name in ("ways", "events", "held", "earlier"))
    print_one(told, output)
    for way in ways:
        enters = "enters" if way.get("enters") else f"does not enter: {way['refusal']}"
        print_table(way["gates"], ("gate", "open", "refusal", "explanation"), title=f"\n{way['kind']}: {enters}")
    if events:
        print_table(events, ("eventId", "occurredAt", "entryKey", "enrollmentId", "refusal"), title="\nevents")
    if held:
        print_table(held, ("entryKind", "entryKey", "triggeredAt", "heldAt", "looksAt"), title="\nheld entries")
    if earlier:
        columns = ("enrollmentId", "version", "entryKind", "entryKey", "enrolledAt", "outcome")
        print_table(earlier, columns, title="\nearlier entries")


app.command("arms")(arms)
app.command("choices")(choices)
app.command("impact")(impact)
app.command("plan-impact")(plan)
app.command("simulate")(simulate)
app.command("backtest")(backtest)


@app.command()
def stats(journey_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show who came in, who was refused and why, and what each step did."""
    request = messages.GetJourneyFunnelRequest(journey_id=journey_id)
    funnel = encode(call(lambda client: client.journeys.GetJourneyFunnel(request)).funnel)
    if output is Output.JSON:
        print_json(funnel)
        return
    steps, versions = funnel.pop("steps"), funnel.pop("versions")
    print_one(funnel, output)
    print_table(versions, ("entryVersion", "version", "active", "completed"), title="")
    print_table(steps, ("stepId", "stepKind", "executed", "skipped", "failed", "active"), title="")


@app.command()
def versions(journey_id: Id, limit: Limit = 100, output: OutputOption = Output.TABLE) -> None:
    """List what was published, newest first."""
    request = messages.ListJourneyVersionsRequest(journey_id=journey_id, page_size=page_size(limit))
    found = call(lambda client: first(each(client.journeys.ListJourneyVersions, request), limit))
    print_list(found, ("version", "publishedAt", "publishedBy"), output)


@app.command()
def version(
    journey_id: Id,
    number: Annotated[int, typer.Argument(min=1)],
    form: FormOption = Form.WRITTEN,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one published version, whole."""
    request = messages.GetJourneyVersionRequest(journey_id=journey_id, version=number, form=number_of(form))
    print_one(encode(call(lambda client: client.journeys.GetJourneyVersion(request)).version), output)


@app.command()
def audit(journey_id: Id, limit: Limit = 200, output: OutputOption = Output.TABLE) -> None:
    """List what was done with a journey, newest first."""
    request = messages.ListJourneyAuditEntriesRequest(journey_id=journey_id, page_size=page_size(limit))
    found = call(lambda client: first(each(client.journeys.ListJourneyAuditEntries, request), limit))
    print_list(found, ("timestamp", "actor", "action", "metadata"), output)


def _told(violation: messages.Violation) -> str:
    return sentence_of(Violation(violation.path, violation.reason, violation.message))
