"""Jobs that enroll a whole crowd: asked for by callers, worked through by workers, who share them by row locks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from asyncpg import Connection, Record

from orchestrator.domain.enrollment_job import Crowd, EnrollmentJob, JobState
from orchestrator.domain.resource import Place
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import outbox

#: `estimate` of a job that could not be estimated.
UNKNOWN = -1

_COLUMNS = """
project_no, enrollment_job_id, journey_id, audience_id, segment_id, rate, state, reason, bucket, subject_no, looked_at,
enrolled, held_out, errors, refused, estimate, paced_to, next_at, created_by, revision, created_at, updated_at, ended_at
"""

_INSERT = """
INSERT INTO enrollment_jobs (project_no, enrollment_job_id, journey_id, audience_id, segment_id, rate, state, paced_to,
                             next_at, created_by, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT ON CONSTRAINT enrollment_jobs_pkey DO NOTHING
RETURNING true
"""


async def insert(conn: Connection[Record], project_no: int, job: EnrollmentJob) -> bool:
    """Write a new job; False when its id is taken."""
    inserted = await conn.fetchval(
        _INSERT,
        project_no, job.job_id, job.journey_id, job.crowd.audience_id, job.crowd.segment_id, job.rate, job.state.value,
        job.paced_to, job.next_at, job.created_by, job.revision, job.created_at, job.updated_at,
    )  # fmt: skip
    return bool(inserted)


_FIND = f"SELECT {_COLUMNS} FROM enrollment_jobs WHERE project_no = $1 AND enrollment_job_id = $2"


async def find(conn: Connection[Record], project_no: int, job_id: str) -> EnrollmentJob | None:
    row = await conn.fetchrow(_FIND, project_no, job_id)
    return _job(row) if row else None


async def hold(conn: Connection[Record], project_no: int, job_id: str) -> EnrollmentJob | None:
    """The job, of which no page is worked on before this transaction has ended. Before it callers take no lock but that
    of a journey's schedule, and none after it."""
    row = await conn.fetchrow(f"{_FIND} FOR UPDATE", project_no, job_id)
    return _job(row) if row else None


_PAGE = f"""
SELECT {_COLUMNS} FROM enrollment_jobs
 WHERE project_no = $1
   AND ($2::timestamptz IS NULL OR (created_at, enrollment_job_id) < ($2, $3))
   AND ($5::text IS NULL OR journey_id = $5)
   AND ($6::text IS NULL OR state = $6)
 ORDER BY created_at DESC, enrollment_job_id DESC
 LIMIT $4
"""


async def page(
    conn: Connection[Record],
    project_no: int,
    *,
    journey_id: str | None,
    state: JobState | None,
    after: Place | None,
    limit: int,
) -> tuple[list[EnrollmentJob], Place | None]:
    """At most `limit` (≥ 1) jobs, of this journey and in this state if they are given, newest first; where it ends."""
    created_at, job_id = (after.created_at, after.id) if after else (None, None)
    rows = await conn.fetch(
        _PAGE, project_no, created_at, job_id, limit + 1, journey_id, state.value if state else None
    )
    jobs = [_job(row) for row in rows[:limit]]
    last = jobs[-1] if len(rows) > limit else None
    return jobs, Place(created_at=last.created_at, id=last.job_id) if last else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """A job to work on, held, and its project; or, without one, how long until one is due (None: none waits)."""

    project_no: int = 0
    project_id: str = ""
    job: EnrollmentJob | None = None
    due_in: timedelta | None = None


_NEXT = f"""
SELECT {_COLUMNS}, clock_timestamp() AS now,
       (SELECT p.project_id FROM projects AS p WHERE p.project_no = enrollment_jobs.project_no) AS project_id
  FROM enrollment_jobs
 WHERE state = 'running' AND ($1::int IS NULL OR project_no = $1 AND enrollment_job_id = $2)
 ORDER BY next_at LIMIT 1
   FOR UPDATE SKIP LOCKED
"""


async def hold_next(conn: Connection[Record], only: tuple[int, str] | None = None) -> Next:
    """The job whose turn it is, or this one (`only`), held until the transaction ends; none if it is too early."""
    row = await conn.fetchrow(_NEXT, *(only or (None, None)))
    if row is None:
        return Next()
    if (early := row["next_at"] - row["now"]) > timedelta(0):
        return Next(due_in=early)
    return Next(project_no=row["project_no"], project_id=row["project_id"], job=_job(row))


_RECORD = """
UPDATE enrollment_jobs
   SET state = $3, reason = $4, bucket = $5, subject_no = $6, looked_at = $7, enrolled = $8, errors = $9, refused = $10,
       estimate = $11, paced_to = $12, next_at = $13, revision = $14, updated_at = $15, ended_at = $16, held_out = $17
 WHERE project_no = $1 AND enrollment_job_id = $2
"""


async def record(conn: Connection[Record], project_no: int, job: EnrollmentJob) -> None:
    """Write how far a job has come over what is there; the caller holds it."""
    estimate = job.estimate if job.estimate is not None else UNKNOWN if job.estimated else None
    await conn.execute(
        _RECORD,
        project_no, job.job_id, job.state.value, job.reason, job.place.bucket, job.place.subject_no, job.looked_at,
        job.enrolled, job.errors, dict(job.refused), estimate, job.paced_to, job.next_at, job.revision, job.updated_at,
        job.ended_at, job.held_out,
    )  # fmt: skip


_SWITCH = """
UPDATE enrollment_jobs
   SET state = $3, reason = $4, paced_to = $5, next_at = $6, revision = $7, updated_at = $8, ended_at = $9
 WHERE project_no = $1 AND enrollment_job_id = $2
"""


async def switch(conn: Connection[Record], project_no: int, job: EnrollmentJob) -> None:
    """Write the state of a job, which the caller holds, and leave its progress as it is."""
    await conn.execute(
        _SWITCH,
        project_no, job.job_id, job.state.value, job.reason, job.paced_to, job.next_at, job.revision, job.updated_at,
        job.ended_at,
    )  # fmt: skip


_KEYS = """
SELECT bucket, subject_no FROM subjects
 WHERE project_no = $1 AND (bucket, subject_no) > ($2::smallint, $3::bigint)
 ORDER BY bucket, subject_no
 LIMIT $4
"""


async def keys_after(conn: Connection[Record], place: SubjectKey, limit: int) -> list[SubjectKey]:
    """The next subjects of the project, in lock order."""
    rows = await conn.fetch(_KEYS, place.project_no, place.bucket, place.subject_no, limit)
    return [SubjectKey(project_no=place.project_no, bucket=row[0], subject_no=row[1]) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Those who go first: how many starts Temporal has still to be told (storage/outbox.py); whether something has
    been waiting in the inbox for longer than it takes.
    """

    untold: int
    waiting: bool


_WAITING = """
SELECT coalesce((SELECT received_at < clock_timestamp() - $1::interval FROM inbox
                  WHERE attempts = 0 ORDER BY inbox_no LIMIT 1), false) AS waiting
 WHERE EXISTS (SELECT FROM enrollment_jobs WHERE state = 'running')
"""


async def others(conn: Connection[Record], most: int, patience: timedelta) -> Others | None:
    """None: no job runs, and nobody has to be asked after."""
    waiting: bool | None = await conn.fetchval(_WAITING, patience)
    return Others(untold=await outbox.untold(conn, "start", most), waiting=waiting) if waiting is not None else None


def _job(row: Record) -> EnrollmentJob:
    estimate = row["estimate"]
    return EnrollmentJob(
        job_id=row["enrollment_job_id"],
        journey_id=row["journey_id"],
        crowd=Crowd(audience_id=row["audience_id"], segment_id=row["segment_id"]),
        rate=row["rate"],
        state=JobState(row["state"]),
        reason=row["reason"],
        place=SubjectKey(project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"]),
        looked_at=row["looked_at"],
        enrolled=row["enrolled"],
        held_out=row["held_out"],
        errors=row["errors"],
        refused=row["refused"],
        estimate=None if estimate == UNKNOWN else estimate,
        estimated=estimate is not None,
        paced_to=row["paced_to"],
        next_at=row["next_at"],
        created_by=row["created_by"],
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ended_at=row["ended_at"],
    )
