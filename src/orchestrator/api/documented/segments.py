"""Segments as `/admin/projects/{project}/segments` has them: members in snake_case."""

from __future__ import annotations

from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.members import same, with_all
from orchestrator.api.documented.row import IGNORED, Body, Document, Given, Meant
from orchestrator.api.json_encode import encode
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import segment_pb2 as pb
from orchestrator.v1 import segment_service_pb2 as rpc

ERRORS = ErrorForm(
    named=frozenset({"SYSTEM_SEGMENT"}),
    instead={"SEGMENT_NOT_FOUND": "NOT_FOUND", "PROJECT_NOT_FOUND": "NOT_FOUND"},
    in_capitals=True,
)

#: What of it can be sent back, though the server alone says it.
_SAID = ("is_system", "size", "building", "missing_cohort_id", "last_evaluated_at", "last_entered_count")
_MEMBERS = {
    **same("id", "name", "description", "kind", "rules", "etag"),
    "updated_at": "updatedAt",
    **dict.fromkeys((*_SAID, "last_left_count", "created_at"), IGNORED),
}
#: By member of `/v1`.
_TOLD = {
    "lastEvaluatedAt": "last_evaluated_at",
    "missingCohortId": "missing_cohort_id",
    "lastEnteredCount": "last_entered_count",
    "lastLeftCount": "last_left_count",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
}


def require_rules(given: Given, meant: Meant) -> None:
    """Here a segment without rules is a mistake, and not a list."""
    if given.document.get("rules") is None:
        meant.faults.append(Fault(path="rules", reason="REQUIRED", message="must be given"))


CREATION = Body(members=_MEMBERS, required=("rules",), finish=require_rules)
CHANGE = Body(members=_MEMBERS)


def listed(answer: rpc.ListSegmentsResponse, request: object) -> list[Document]:
    return [segment_document(segment) for segment in answer.segments]


def shown(
    answer: rpc.GetSegmentResponse | rpc.CreateSegmentResponse | rpc.UpdateSegmentResponse, request: object
) -> Document:
    return segment_document(answer.segment)


def segment_document(segment: pb.Segment) -> Document:
    document = {_TOLD.get(name, name): value for name, value in encode(segment).items()}
    is_system = segment.kind == pb.Segment.KIND_SYSTEM
    return with_all(document, {"description": "", "rules": None, "is_system": is_system, "last_evaluated_at": None})


def evaluation(answer: rpc.EvaluateSegmentResponse, request: rpc.EvaluateSegmentRequest) -> Document:
    return {"segment_id": request.segment_id, "run_id": answer.run_id}
