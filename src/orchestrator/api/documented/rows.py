"""Every documented call, document by document. Roles are those of the RPCs: the documents' own tables say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orchestrator.api.documented import audiences, filters, impact, internal, journeys, journeys_v1, segments
from orchestrator.api.documented.answer import Answer
from orchestrator.api.documented.audiences import gone
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.members import same
from orchestrator.api.documented.row import Body, Row

_NOTHING = Body(members={})
_AS_V1 = Body()


class _Under:
    """Makes the rows of one document: their paths begin alike, and so do the names of their RPCs."""

    def __init__(self, path: str, service: str, errors: ErrorForm) -> None:
        self._path = path
        self._service = service
        self._errors = errors

    def __call__(self, line: str, rpc: str, answer: Answer, body: Body = _NOTHING, *, status: int = 200) -> Row:
        verb, _, path = line.partition(" ")
        return Row(
            verb=verb,
            path=f"{self._path}{path}",
            rpc=rpc if "/" in rpc else f"{self._service}/{rpc}",
            errors=self._errors,
            answer=answer,
            body=body,
            status=status,
        )


def _filters() -> Iterator[Row]:
    row = _Under("/audiences", "AudienceService", filters.ERRORS)
    yield row("POST", "CreateAudience", filters.created, filters.CREATION)


def _audiences() -> Iterator[Row]:
    row = _Under("/api/audiences", "AudienceService", audiences.ERRORS)
    yield replace(row("GET", "ListAudiences", audiences.listed), whole=True)
    yield row("POST", "CreateAudience", audiences.shown, _AS_V1)
    yield row("GET /{audience_id}", "GetAudience", audiences.shown)
    yield row("PATCH /{audience.id}", "UpdateAudience", audiences.shown, _AS_V1)
    yield row("DELETE /{audience_id}", "DeleteAudience", gone)


def _segments() -> Iterator[Row]:
    row = _Under("/admin/projects/{project_id}/segments", "SegmentService", segments.ERRORS)
    creation = row("POST", "CreateSegment", segments.shown, segments.CREATION, status=201)
    yield replace(creation, store_failed="CREATE_FAILED")
    yield replace(row("GET", "ListSegments", segments.listed), whole=True)
    yield row("GET /{segment_id}", "GetSegment", segments.shown)
    change = row("PATCH /{segment.id}", "UpdateSegment", segments.shown, segments.CHANGE)
    yield replace(change, store_failed="UPDATE_FAILED")
    yield replace(row("DELETE /{segment_id}", "DeleteSegment", gone), store_failed="DELETE_FAILED")
    evaluation = row("POST /{segment_id}/evaluate", "EvaluateSegment", segments.evaluation)
    yield replace(evaluation, store_failed="EVALUATE_FAILED")


def _journeys_v1() -> Iterator[Row]:
    row = _Under("/api/v1/journeys", "JourneyService", journeys_v1.ERRORS)
    listing = row("GET", "ListJourneys", journeys_v1.listed, journeys_v1.SELECTION)
    yield replace(listing, parameters=journeys_v1.PARAMETERS)
    yield row("POST", "CreateJourney", journeys_v1.shown, journeys_v1.CREATION, status=201)
    yield row("GET /{journey_id}", "GetJourney", journeys_v1.shown)
    yield row("PUT /{journey.id}", "UpdateJourney", journeys_v1.shown, journeys_v1.CHANGE)
    yield replace(row("DELETE /{journey_id}", "DeleteJourney", gone, status=204), parameters=same("force"))
    enrollment = journeys_v1.ENROLLMENT
    yield row("POST /{journey_id}/enroll", "EnrollSubjects", journeys_v1.enrolled, enrollment, status=201)
    yield row("POST /{journey_id}/test", "SimulateJourney", journeys_v1.tried, journeys_v1.TRIAL)
    yield row("GET /{journey_id}/analytics", "GetJourneyFunnel", journeys_v1.funnel)


def _journeys() -> Iterator[Row]:
    row = _Under("/api/journeys", "JourneyService", journeys.ERRORS)
    yield replace(row("GET", "ListJourneys", journeys.listed), parameters=same("status"), whole=True)
    yield row("POST", "CreateJourney", journeys.shown, journeys.WRITTEN)
    yield row("GET /{journey_id}", "GetJourney", journeys.shown)
    yield row("PATCH /{journey.id}", "UpdateJourney", journeys.shown, journeys.WRITTEN)
    yield row("POST /{journey_id}/publish", "PublishJourney", journeys.published)
    yield row("POST /{journey_id}/pause", "PauseJourney", journeys.shown)
    yield row("POST /{journey_id}/resume", "ResumeJourney", journeys.shown)
    yield row("POST /{journey_id}/archive", "ArchiveJourney", journeys.archived, journeys.ARCHIVAL)
    audit = row("GET /{journey_id}/audit", "ListJourneyAuditEntries", journeys.audit)
    yield replace(audit, fixed=(("pageSize", str(journeys.AUDIT_ENTRIES)),))
    executions = row("GET /{journey_id}/executions", "ExecutionService/ListExecutions", journeys.execution_list)
    yield replace(executions, fixed=(("pageSize", str(journeys.EXECUTIONS)),))
    yield row("GET /{journey_id}/branch-performance", "ImpactService/GetBranchPerformance", impact.performance)
    yield row("GET /{journey_id}/calibrated-impact", "ImpactService/GetCalibratedImpact", impact.calibrated)
    yield row("GET /{journey_id}/step-stats", "GetStepStats", journeys.step_stats)
    yield row("POST /{journey_id}/simulate", "SimulateJourney", journeys.simulated, journeys.SIMULATION)


def _internal() -> Iterator[Row]:
    row = _Under("/api/journeys/internal", "InternalService", journeys.ERRORS)
    yield row("POST /dispatch", "DispatchEntries", internal.dispatched, internal.DISPATCH)
    yield row("POST /start-execution", "StartExecution", internal.started, internal.START)
    yield row("POST /forget-end-user", "ErasureService/ForgetSubject", internal.forgotten, internal.FORGET)
    translation = "PinpointService/TranslatePinpoint"
    yield row("POST /translate-pinpoint", translation, internal.translated, internal.TRANSLATE)
    yield row("POST /import-bundle", "BundleService/ImportBundle", internal.imported, internal.IMPORT)


INTERNAL_ROWS: tuple[Row, ...] = tuple(replace(row, internal=True) for row in _internal())
ROWS: tuple[Row, ...] = (
    *(*_filters(), *_audiences(), *_segments(), *_journeys_v1(), *_journeys()),
    *INTERNAL_ROWS,
)
