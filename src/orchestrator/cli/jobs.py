from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.api.json_encode import encode
from orchestrator.api.json_enums import words
from orchestrator.cli.connection import call
from orchestrator.cli.failure import FAILED
from orchestrator.cli.output import Output, OutputOption, print_list, print_one, text_of
from orchestrator.cli.resources import Id, Limit, first, page_size
from orchestrator.client import OrchestratorClient, each, messages

app = typer.Typer(help="Look at the enrollment of whole crowds, and steer it.", no_args_is_help=True)

_COLUMNS = (
    *("id", "journeyId", "state", "reason", "enrolledCount", "skippedCount", "errorCount", "estimatedCount"),
    *("ratePerSecond", "createdAt"),
)

#: Seconds between two looks at a job that is watched.
_EVERY = 1.0

_ENDED = frozenset({
    messages.EnrollmentJob.STATE_DONE, messages.EnrollmentJob.STATE_CANCELED, messages.EnrollmentJob.STATE_FAILED
})  # fmt: skip


@app.command("list")
def list_(
    journey_id: Annotated[str, typer.Argument(metavar="JOURNEY_ID", help="Of this journey.")] = "",
    limit: Limit = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List jobs, newest first."""
    request = messages.ListEnrollmentJobsRequest(journey_id=journey_id, page_size=page_size(limit))
    found = call(lambda client: first(each(client.enrollment_jobs.ListEnrollmentJobs, request), limit))
    print_list(found, _COLUMNS, output)


@app.command()
def get(job_id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show one job, and how far it has come."""
    request = messages.GetEnrollmentJobRequest(enrollment_job_id=job_id)
    print_one(encode(call(lambda client: client.enrollment_jobs.GetEnrollmentJob(request)).enrollment_job), output)


@app.command()
def watch(job_id: Id) -> None:
    """Show how a job gets on, until it has ended or stands still. Interrupting this leaves the job alone."""
    follow(job_id)


@app.command()
def pause(job_id: Id) -> None:
    """Let nobody in by this job until it is resumed."""
    request = messages.PauseEnrollmentJobRequest(enrollment_job_id=job_id)
    call(lambda client: client.enrollment_jobs.PauseEnrollmentJob(request))
    typer.echo(f"Paused {job_id}.", err=True)


@app.command()
def resume(job_id: Id) -> None:
    """Go on with a job where it stopped."""
    request = messages.ResumeEnrollmentJobRequest(enrollment_job_id=job_id)
    call(lambda client: client.enrollment_jobs.ResumeEnrollmentJob(request))
    typer.echo(f"Resumed {job_id}.", err=True)


@app.command()
def cancel(job_id: Id) -> None:
    """End a job where it stands; those whom it has let in go on."""
    request = messages.CancelEnrollmentJobRequest(enrollment_job_id=job_id)
    job = call(lambda client: client.enrollment_jobs.CancelEnrollmentJob(request)).enrollment_job
    typer.echo(f"Canceled {job_id} after {job.enrolled_count} enrollments.", err=True)


def follow(job_id: str) -> None:
    """Keep one line about this job until it has ended, or nobody is let in until somebody does something.

    The line is on stderr; where that is no terminal, only the last one is. Exits with FAILED unless the job is done.
    """
    job = call(lambda client: _followed(client, job_id))
    if job.state != messages.EnrollmentJob.STATE_DONE:
        raise typer.Exit(FAILED)


async def _followed(client: OrchestratorClient, job_id: str) -> messages.EnrollmentJob:
    request = messages.GetEnrollmentJobRequest(enrollment_job_id=job_id)
    loop = asyncio.get_running_loop()
    before: tuple[float, int] | None = None
    with Live(console=Console(stderr=True, highlight=False), auto_refresh=False) as line:
        while True:
            job = (await client.enrollment_jobs.GetEnrollmentJob(request)).enrollment_job
            now = loop.time()
            speed = (job.enrolled_count - before[1]) / (now - before[0]) if before else None
            line.update(_progress(job, speed), refresh=sys.stderr.isatty())
            if job.state in _ENDED or job.state == messages.EnrollmentJob.STATE_PAUSED:
                line.refresh()
                return job
            before = now, job.enrolled_count
            await asyncio.sleep(_EVERY)


def _progress(job: messages.EnrollmentJob, speed: float | None) -> Text:
    """`running: 1,200 of about 5,000 enrolled, 3 skipped, 0 errors, 98/s`."""
    state = words(messages.EnrollmentJob.State.DESCRIPTOR)[job.state]
    expected = f" of about {job.estimated_count:,}" if job.HasField("estimated_count") else ""
    parts = [
        f"{job.enrolled_count:,}{expected} enrolled",
        f"{job.skipped_count:,} skipped",
        f"{job.error_count:,} errors",
    ]
    if speed is not None and job.state not in _ENDED:
        parts.append(f"{speed:,.0f}/s")
    why = f" ({job.reason})" if job.reason else ""
    return text_of(f"{state}{why}: {', '.join(parts)}")
