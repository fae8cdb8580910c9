"""Enrollment jobs as messages."""

from __future__ import annotations

from orchestrator.api.convert.times import to_timestamp
from orchestrator.domain.enrollment_job import EnrollmentJob, JobState
from orchestrator.domain.etag import etag_of
from orchestrator.v1 import enrollment_job_pb2 as pb

_STATES = {
    JobState.RUNNING: pb.EnrollmentJob.STATE_RUNNING,
    JobState.PAUSED: pb.EnrollmentJob.STATE_PAUSED,
    JobState.DONE: pb.EnrollmentJob.STATE_DONE,
    JobState.CANCELED: pb.EnrollmentJob.STATE_CANCELED,
    JobState.FAILED: pb.EnrollmentJob.STATE_FAILED,
}
_STATES_MEANT = {number: state for state, number in _STATES.items()}


def job_message(job: EnrollmentJob) -> pb.EnrollmentJob:
    return pb.EnrollmentJob(
        id=job.job_id,
        journey_id=job.journey_id,
        audience_id=job.crowd.audience_id or "",
        segment_id=job.crowd.segment_id or "",
        everyone=job.crowd.is_everyone,
        rate_per_second=job.rate,
        state=_STATES[job.state],
        reason=job.reason or "",
        looked_at_count=job.looked_at,
        enrolled_count=job.enrolled,
        held_out_count=job.held_out,
        skipped_count=job.skipped,
        error_count=job.errors,
        refused=[pb.RefusedEntries(reason=reason, count=count) for reason, count in sorted(job.refused.items())],
        estimated_count=job.estimate,
        creator=job.created_by,
        end_time=to_timestamp(job.ended_at) if job.ended_at else None,
        create_time=to_timestamp(job.created_at),
        update_time=to_timestamp(job.updated_at),
        etag=etag_of(job.revision, job.updated_at),
    )


def state_of(number: pb.EnrollmentJob.State.ValueType) -> JobState | None:
    """The state a list is limited to; None: it is not."""
    return _STATES_MEANT.get(number)
