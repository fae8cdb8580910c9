"""EnrollmentJobService."""

from __future__ import annotations

from orchestrator.api.call import Call
from orchestrator.api.convert.enrollment_jobs import job_message, state_of
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.expected import expected
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import enrollment_jobs
from orchestrator.v1 import enrollment_job_service_pb2 as rpc


class EnrollmentJobHandlers:
    async def ListEnrollmentJobs(
        self, request: rpc.ListEnrollmentJobsRequest, call: Call
    ) -> rpc.ListEnrollmentJobsResponse:
        page, end = await enrollment_jobs.page(
            call.conn,
            call.scope,
            journey_id=request.journey_id or None,
            state=state_of(request.state),
            after=place_of(request),
            limit=page_limit(request),
        )
        return rpc.ListEnrollmentJobsResponse(
            enrollment_jobs=[job_message(job) for job in page], next_page_token=token_after(request, end)
        )

    async def CreateEnrollmentJob(
        self, request: rpc.CreateEnrollmentJobRequest, call: Call
    ) -> rpc.CreateEnrollmentJobResponse:
        sent = request.enrollment_job
        job = await enrollment_jobs.create(
            call.conn,
            call.scope,
            job_id=sent.id,
            journey_id=sent.journey_id,
            audience_id=sent.audience_id,
            segment_id=sent.segment_id,
            everyone=sent.everyone,
            rate=sent.rate_per_second if sent.HasField("rate_per_second") else None,
        )
        return rpc.CreateEnrollmentJobResponse(enrollment_job=job_message(job))

    async def GetEnrollmentJob(self, request: rpc.GetEnrollmentJobRequest, call: Call) -> rpc.GetEnrollmentJobResponse:
        job = await enrollment_jobs.get(call.conn, call.scope, request.enrollment_job_id)
        return rpc.GetEnrollmentJobResponse(enrollment_job=job_message(job))

    async def PauseEnrollmentJob(
        self, request: rpc.PauseEnrollmentJobRequest, call: Call
    ) -> rpc.PauseEnrollmentJobResponse:
        job = await enrollment_jobs.pause(call.conn, call.scope, request.enrollment_job_id, expected(request))
        return rpc.PauseEnrollmentJobResponse(enrollment_job=job_message(job))

    async def ResumeEnrollmentJob(
        self, request: rpc.ResumeEnrollmentJobRequest, call: Call
    ) -> rpc.ResumeEnrollmentJobResponse:
        job = await enrollment_jobs.resume(call.conn, call.scope, request.enrollment_job_id, expected(request))
        return rpc.ResumeEnrollmentJobResponse(enrollment_job=job_message(job))

    async def CancelEnrollmentJob(
        self, request: rpc.CancelEnrollmentJobRequest, call: Call
    ) -> rpc.CancelEnrollmentJobResponse:
        job = await enrollment_jobs.cancel(call.conn, call.scope, request.enrollment_job_id, expected(request))
        return rpc.CancelEnrollmentJobResponse(enrollment_job=job_message(job))
