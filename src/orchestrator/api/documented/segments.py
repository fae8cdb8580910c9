"""Segments as `/admin/projects/{project}/segments` has them: members in snake_case."""

from __future__ import annotations

from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.documented.answer import Document, described, list_of, object_of, or_null
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.members import same, with_all
from orchestrator.api.documented.row import IGNORED, Body, Given, Meant
from orchestrator.api.json_encode import encode
from orchestrator.api.openapi_schemas import Schemas
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


_ALWAYS = (
    *("id", "name", "description", "kind", "is_system", "rules", "size", "building", "last_evaluated_at"),
    *("last_entered_count", "last_left_count", "created_at", "updated_at", "etag"),
)


def _segment(schemas: Schemas) -> Document:
    members = {_TOLD.get(name, name): schema for name, schema in schemas.members(descriptor_of(pb.Segment)).items()}
    members |= {name: or_null(members[name]) for name in ("rules", "last_evaluated_at")}
    members["is_system"] = {"type": "boolean", "description": "Whether its rules are ours, and not to be changed."}
    return schemas.named("DocumentedSegment", object_of(members, always=_ALWAYS))


@described(lambda schemas: list_of(_segment(schemas)))
def listed(answer: rpc.ListSegmentsResponse, request: object) -> list[Document]:
    return [segment_document(segment) for segment in answer.segments]


@described(_segment)
def shown(
    answer: rpc.GetSegmentResponse | rpc.CreateSegmentResponse | rpc.UpdateSegmentResponse, request: object
) -> Document:
    return segment_document(answer.segment)


def segment_document(segment: pb.Segment) -> Document:
    document = {_TOLD.get(name, name): value for name, value in encode(segment).items()}
    is_system = segment.kind == pb.Segment.KIND_SYSTEM
    return with_all(document, {"description": "", "rules": None, "is_system": is_system, "last_evaluated_at": None})


def _evaluation(schemas: Schemas) -> Document:
    members = {
        "segment_id": schemas.of(descriptor_of(pb.Segment).fields_by_name["id"]),
        "run_id": schemas.of(descriptor_of(rpc.EvaluateSegmentResponse).fields_by_name["run_id"]),
    }
    return object_of(members, always=("segment_id", "run_id"))


@described(_evaluation)
def evaluation(answer: rpc.EvaluateSegmentResponse, request: rpc.EvaluateSegmentRequest) -> Document:
    return {"segment_id": request.segment_id, "run_id": answer.run_id}
