"""How a job that enrolls a crowd stands still, ends, and says so in the audit log. Callers hold its row."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.domain.audit import (
    ENROLLMENT_JOB_DONE,
    ENROLLMENT_JOB_FAILED,
    ENROLLMENT_JOB_STOPPED,
    RUNTIME,
    Action,
    Value,
)
from orchestrator.domain.enrollment_job import EnrollmentJob, JobState, StandStill
from orchestrator.domain.resource import later
from orchestrator.storage import audit, enrollment_jobs

#: What stands in a job's way and passes by itself is looked at again after this.
LOOK_AGAIN = timedelta(seconds=5)


async def finish(conn: Connection[Record], project_no: int, job: EnrollmentJob, now: datetime) -> None:
    """It has looked at everybody."""
    job = _ended(replace(job, state=JobState.DONE), now)
    said: dict[str, Value] = {
        "enrolled": job.enrolled,
        "skipped": job.skipped,
        "errors": job.errors,
        "lookedAt": job.looked_at,
    }
    await _tell(conn, project_no, job, ENROLLMENT_JOB_DONE, now, **said)
    await enrollment_jobs.record(conn, project_no, job)


async def stand_still(
    conn: Connection[Record], project_no: int, job: EnrollmentJob, why: StandStill, now: datetime
) -> None:
    """Wait for what passes by itself, pause for what somebody has to mend, and end for what lasts for ever."""
    job = replace(job, reason=why.value)
    match why:
        case StandStill.EVENTS_BEING_COUNTED | StandStill.JOURNEY_NOT_STARTED:
            job = replace(job, next_at=now + LOOK_AGAIN)
        case StandStill.JOURNEY_NOT_FOUND | StandStill.JOURNEY_ARCHIVED | StandStill.JOURNEY_ENDED:
            job = _ended(replace(job, state=JobState.FAILED), now)
            await _tell(conn, project_no, job, ENROLLMENT_JOB_FAILED, now, reason=why.value)
        case _:
            job = _changed(replace(job, state=JobState.PAUSED), now)
            await _tell(conn, project_no, job, ENROLLMENT_JOB_STOPPED, now, reason=why.value)
    await enrollment_jobs.record(conn, project_no, job)


def _ended(job: EnrollmentJob, now: datetime) -> EnrollmentJob:
    return replace(_changed(job, now), ended_at=now)


def _changed(job: EnrollmentJob, now: datetime) -> EnrollmentJob:
    return replace(job, revision=job.revision + 1, updated_at=later(job.updated_at, now))


async def _tell(
    conn: Connection[Record], project_no: int, job: EnrollmentJob, action: Action, now: datetime, **said: Value
) -> None:
    await audit.append(
        conn,
        project_no=project_no,
        at=now,
        actor=RUNTIME,
        action=action,
        resource_id=job.journey_id,
        metadata={"enrollmentJobId": job.job_id, **said},
    )
