"""Every documented call, document by document. Roles are those of the RPCs: the documents' own tables say the same."""

from __future__ import annotations

from orchestrator.api.documented import audiences, filters, journeys, journeys_v1, segments
from orchestrator.api.documented.audiences import gone
from orchestrator.api.documented.members import as_it_is, nothing
from orchestrator.api.documented.row import Read, Row, Write


def _audiences(verb: str, path: str, rpc: str, read: Read, write: Write, *, whole: bool = False) -> Row:
    return Row(
        verb=verb,
        path=f"/api/audiences{path}",
        rpc=f"AudienceService/{rpc}",
        errors=audiences.ERRORS,
        read=read,
        write=write,
        whole=whole,
    )


def _segments(
    verb: str, path: str, rpc: str, read: Read, write: Write, failed: str, *, status: int = 200, whole: bool = False
) -> Row:
    return Row(
        verb=verb,
        path=f"/admin/projects/{{project_id}}/segments{path}",
        rpc=f"SegmentService/{rpc}",
        errors=segments.ERRORS,
        read=read,
        write=write,
        status=status,
        store_failed=failed,
        whole=whole,
    )


def _journeys(verb: str, path: str, rpc: str, read: Read, write: Write, *, whole: bool = False) -> Row:
    return Row(
        verb=verb,
        path=f"/api/journeys{path}",
        rpc=rpc if "/" in rpc else f"JourneyService/{rpc}",
        errors=journeys.ERRORS,
        read=read,
        write=write,
        whole=whole,
    )


def _journeys_v1(verb: str, path: str, rpc: str, read: Read, write: Write, status: int = 200) -> Row:
    return Row(
        verb=verb,
        path=f"/api/v1/journeys{path}",
        rpc=f"JourneyService/{rpc}",
        errors=journeys_v1.ERRORS,
        read=read,
        write=write,
        status=status,
    )


ROWS: tuple[Row, ...] = (
    Row(
        verb="POST",
        path="/audiences",
        rpc="AudienceService/CreateAudience",
        errors=filters.ERRORS,
        read=filters.creation,
        write=filters.created,
    ),
    _audiences("GET", "", "ListAudiences", nothing, audiences.listed, whole=True),
    _audiences("POST", "", "CreateAudience", as_it_is, audiences.shown),
    _audiences("GET", "/{audience_id}", "GetAudience", nothing, audiences.shown),
    _audiences("PATCH", "/{audience.id}", "UpdateAudience", as_it_is, audiences.shown),
    _audiences("DELETE", "/{audience_id}", "DeleteAudience", nothing, gone),
    _segments("POST", "", "CreateSegment", segments.creation, segments.shown, "CREATE_FAILED", status=201),
    _segments("GET", "", "ListSegments", nothing, segments.listed, "", whole=True),
    _segments("GET", "/{segment_id}", "GetSegment", nothing, segments.shown, ""),
    _segments("PATCH", "/{segment.id}", "UpdateSegment", segments.change, segments.shown, "UPDATE_FAILED"),
    _segments("DELETE", "/{segment_id}", "DeleteSegment", nothing, gone, "DELETE_FAILED"),
    _segments("POST", "/{segment_id}/evaluate", "EvaluateSegment", nothing, segments.evaluation, "EVALUATE_FAILED"),
    _journeys_v1("GET", "", "ListJourneys", journeys_v1.selection, journeys_v1.listed),
    _journeys_v1("POST", "", "CreateJourney", journeys_v1.creation, journeys_v1.shown, 201),
    _journeys_v1("GET", "/{journey_id}", "GetJourney", nothing, journeys_v1.shown),
    _journeys_v1("PUT", "/{journey.id}", "UpdateJourney", journeys_v1.change, journeys_v1.shown),
    _journeys_v1("DELETE", "/{journey_id}", "DeleteJourney", journeys_v1.deletion, gone, 204),
    _journeys_v1("POST", "/{journey_id}/enroll", "EnrollSubjects", journeys_v1.enrollment, journeys_v1.enrolled, 201),
    _journeys_v1("POST", "/{journey_id}/test", "SimulateJourney", journeys_v1.trial, journeys_v1.tried),
    _journeys_v1("GET", "/{journey_id}/analytics", "GetJourneyFunnel", nothing, journeys_v1.funnel),
    _journeys("GET", "", "ListJourneys", journeys.selection, journeys.listed, whole=True),
    _journeys("POST", "", "CreateJourney", journeys.written, journeys.shown),
    _journeys("GET", "/{journey_id}", "GetJourney", nothing, journeys.shown),
    _journeys("PATCH", "/{journey.id}", "UpdateJourney", journeys.written, journeys.shown),
    _journeys("POST", "/{journey_id}/publish", "PublishJourney", nothing, journeys.published),
    _journeys("POST", "/{journey_id}/pause", "PauseJourney", nothing, journeys.shown),
    _journeys("POST", "/{journey_id}/resume", "ResumeJourney", nothing, journeys.shown),
    _journeys("POST", "/{journey_id}/archive", "ArchiveJourney", journeys.archival, journeys.archived),
    _journeys("GET", "/{journey_id}/audit", "ListJourneyAuditEntries", journeys.latest_audit, journeys.audit),
    _journeys(
        "GET",
        "/{journey_id}/executions",
        "ExecutionService/ListExecutions",
        journeys.latest_executions,
        journeys.execution_list,
    ),
    _journeys("GET", "/{journey_id}/step-stats", "GetStepStats", nothing, journeys.step_stats),
    _journeys("POST", "/{journey_id}/simulate", "SimulateJourney", journeys.simulation, journeys.simulated),
)
