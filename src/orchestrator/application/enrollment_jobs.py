"""Jobs that enroll a whole crowd, as callers see them: asked for, looked at, paused, resumed, canceled.

Callers own the transaction. Workers do what was asked for: application/enrollment_pages.py.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.journeys import get as get_journey
from orchestrator.application.journeys import not_active
from orchestrator.domain.audit import (
    ENROLLMENT_JOB_CANCELED,
    ENROLLMENT_JOB_CREATED,
    ENROLLMENT_JOB_PAUSED,
    ENROLLMENT_JOB_RESUMED,
    Action,
    Value,
)
from orchestrator.domain.enrollment_job import ENDED, MAX_RATE, Crowd, EnrollmentJob, JobState
from orchestrator.domain.etag import Expected
from orchestrator.domain.ids import id_fault, new_id
from orchestrator.domain.journey import Journey, JourneyStatus
from orchestrator.domain.refusals import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.resource import Place, later, to_tick
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.predicates.faults import Fault
from orchestrator.storage import audit, clock, enrollment_jobs, segments
from orchestrator.storage.audiences import audiences

#: Before the first subject of a project.
_BEGINNING = -1


async def create(
    conn: Connection[Record],
    scope: Scope,
    *,
    job_id: str,
    journey_id: str,
    audience_id: str = "",
    segment_id: str = "",
    everyone: bool = False,
    rate: int | None = None,
) -> EnrollmentJob:
    """Ask for a crowd to be enrolled; workers begin after the commit.

    Raises InvalidArgument with every fault, NotFound JOURNEY_NOT_FOUND, FailedPrecondition JOURNEY_NOT_ACTIVE, and
    AlreadyExists.
    """
    if fault := id_fault(journey_id, "journeyId"):
        raise InvalidArgument([fault])
    journey = await get_journey(conn, scope, journey_id)
    faults = [fault] if job_id and (fault := id_fault(job_id, "id")) else []
    if rate is not None and not 1 <= rate <= MAX_RATE:
        message = f"must be 1 to {MAX_RATE} entries a second"
        faults.append(Fault(path="ratePerSecond", reason="OUT_OF_RANGE", message=message))
    faults += await _crowd_faults(conn, scope, audience_id, segment_id, everyone=everyone)
    if faults:
        raise InvalidArgument(faults)
    _require_active(journey)
    now = await clock.now(conn)
    job = EnrollmentJob(
        job_id=job_id or new_id("job"),
        journey_id=journey_id,
        crowd=Crowd(audience_id=audience_id or None, segment_id=segment_id or None),
        rate=rate,
        state=JobState.RUNNING,
        reason=None,
        place=SubjectKey(project_no=scope.project_no, bucket=_BEGINNING, subject_no=0),
        paced_to=now,
        next_at=now,
        created_by=scope.actor,
        revision=1,
        created_at=to_tick(now),
        updated_at=to_tick(now),
    )
    if not await enrollment_jobs.insert(conn, scope.project_no, job):
        raise AlreadyExists("ALREADY_EXISTS", f"there is an enrollment job {job.job_id}", enrollmentJobId=job.job_id)
    said: dict[str, Value] = {"everyone": True} if everyone else {}
    said |= {"audienceId": audience_id} if audience_id else {}
    said |= {"segmentId": segment_id} if segment_id else {}
    said |= {"ratePerSecond": rate} if rate is not None else {}
    await _record(conn, scope, now, ENROLLMENT_JOB_CREATED, job, **said)
    return job


async def get(conn: Connection[Record], scope: Scope, job_id: str) -> EnrollmentJob:
    """Raises NotFound."""
    job = await enrollment_jobs.find(conn, scope.project_no, job_id)
    if job is None:
        raise _not_found(job_id)
    return job


async def page(
    conn: Connection[Record],
    scope: Scope,
    *,
    journey_id: str | None,
    state: JobState | None,
    after: Place | None,
    limit: int,
) -> tuple[list[EnrollmentJob], Place | None]:
    """Jobs, newest first, of this journey and in this state if they are given; and where the page ends.

    Also those of a journey that was deleted. Raises NotFound when there never was one, as far as jobs can tell.
    """
    found, end = await enrollment_jobs.page(
        conn, scope.project_no, journey_id=journey_id, state=state, after=after, limit=limit
    )
    if not found and after is None and journey_id is not None:
        await get_journey(conn, scope, journey_id)
    return found, end


async def pause(conn: Connection[Record], scope: Scope, job_id: str, expected: Expected) -> EnrollmentJob:
    """Let nobody in by this job until it is resumed: none enters after this was acknowledged. A paused job stays so.

    Raises NotFound, Conflict, and FailedPrecondition ENROLLMENT_JOB_ENDED.
    """
    return await _switch(conn, scope, job_id, expected, JobState.PAUSED, ENROLLMENT_JOB_PAUSED)


async def resume(conn: Connection[Record], scope: Scope, job_id: str, expected: Expected) -> EnrollmentJob:
    """Go on where it was paused, or paused itself. A running job stays so.

    Raises NotFound, Conflict, and FailedPrecondition: ENROLLMENT_JOB_ENDED, JOURNEY_NOT_ACTIVE.
    """
    return await _switch(conn, scope, job_id, expected, JobState.RUNNING, ENROLLMENT_JOB_RESUMED)


async def cancel(conn: Connection[Record], scope: Scope, job_id: str, expected: Expected) -> EnrollmentJob:
    """End it where it stands: those who were let in go on, and none enters after this was acknowledged. A canceled job
    stays so.

    Raises NotFound, Conflict, and FailedPrecondition ENROLLMENT_JOB_ENDED for one that has ended otherwise.
    """
    return await _switch(conn, scope, job_id, expected, JobState.CANCELED, ENROLLMENT_JOB_CANCELED)


async def supersede(conn: Connection[Record], scope: Scope, job: EnrollmentJob, by: str) -> None:
    """End a job that has paused itself, and is held: the job `by` enrolls its crowd. Any other one stays as it is."""
    if job.has_paused_itself:
        await _switch(conn, scope, job.job_id, Expected(), JobState.CANCELED, ENROLLMENT_JOB_CANCELED, supersededBy=by)


async def _switch(
    conn: Connection[Record],
    scope: Scope,
    job_id: str,
    expected: Expected,
    state: JobState,
    action: Action,
    **said: Value,
) -> EnrollmentJob:
    job = await enrollment_jobs.hold(conn, scope.project_no, job_id)
    if job is None:
        raise _not_found(job_id)
    expected.require(revision=job.revision, updated_at=job.updated_at, enrollmentJobId=job_id)
    if job.state is state:
        return job
    if job.state in ENDED:
        raise FailedPrecondition(
            "ENROLLMENT_JOB_ENDED",
            f"enrollment job {job_id} is {job.state.value}",
            enrollmentJobId=job_id,
            state=job.state.value,
        )
    if state is JobState.RUNNING:
        _require_active(await get_journey(conn, scope, job.journey_id))
    now = await clock.now(conn)
    job = replace(
        job,
        state=state,
        reason=None,
        # What was not done while it stood still is not made up for.
        paced_to=max(job.paced_to, now) if state is JobState.RUNNING else job.paced_to,
        next_at=now,
        revision=job.revision + 1,
        updated_at=later(job.updated_at, now),
        ended_at=now if state in ENDED else None,
    )
    await enrollment_jobs.switch(conn, scope.project_no, job)
    await _record(conn, scope, now, action, job, **said)
    return job


async def _crowd_faults(
    conn: Connection[Record], scope: Scope, audience_id: str, segment_id: str, *, everyone: bool
) -> list[Fault]:
    crowds = {"audienceId": audience_id, "segmentId": segment_id, "everyone": everyone}
    given = [name for name, one in crowds.items() if one]
    if not given:
        message = "name an audience or a segment, or say that everyone is meant"
        return [Fault(path="audienceId", reason="REQUIRED", message=message)]
    faults = []
    if len(given) > 1:
        message = f"only one crowd is enrolled by a job: this one has {' and '.join(given)}"
        faults.append(Fault(path=given[1], reason="INVALID_VALUE", message=message))
    if audience_id and await audiences.find(conn, scope.project_no, audience_id) is None:
        faults.append(
            Fault(path="audienceId", reason="AUDIENCE_NOT_FOUND", message=f"there is no audience {audience_id}")
        )
    if segment_id and segment_id not in await segments.known(conn, scope.project_no, [segment_id]):
        faults.append(Fault(path="segmentId", reason="COHORT_NOT_FOUND", message=f"there is no segment {segment_id}"))
    return faults


def _require_active(journey: Journey) -> None:
    """For who wants to know soon: each page asks again, under a lock."""
    if journey.status is not JourneyStatus.ACTIVE:
        raise not_active(journey.journey_id, journey.status.value)


async def _record(
    conn: Connection[Record], scope: Scope, at: datetime, action: Action, job: EnrollmentJob, **said: Value
) -> None:
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=at,
        actor=scope.actor,
        action=action,
        resource_id=job.journey_id,
        metadata={"enrollmentJobId": job.job_id, **said},
    )


def _not_found(job_id: str) -> NotFound:
    return NotFound("ENROLLMENT_JOB_NOT_FOUND", f"there is no enrollment job {job_id}", enrollmentJobId=job_id)
