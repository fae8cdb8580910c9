"""Audiences as `/api/audiences` has them: those of `/v1`, under other paths."""

from __future__ import annotations

from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.members import with_all
from orchestrator.api.documented.row import Document
from orchestrator.api.json_encode import encode
from orchestrator.v1 import audience_pb2 as pb
from orchestrator.v1 import audience_service_pb2 as rpc

ERRORS = ErrorForm(
    named=frozenset({"EVENT_NAME_REQUIRED", "FIELD_PATH_REQUIRED", "COHORT_NOT_FOUND", "EMPTY_CLAUSES"}),
)


def listed(answer: rpc.ListAudiencesResponse, request: rpc.ListAudiencesRequest) -> list[Document]:
    return [audience_document(audience) for audience in answer.audiences]


def shown(
    answer: rpc.GetAudienceResponse | rpc.CreateAudienceResponse | rpc.UpdateAudienceResponse, request: object
) -> Document:
    return audience_document(answer.audience)


def audience_document(audience: pb.Audience) -> Document:
    return with_all(encode(audience), {"description": ""})


def gone(answer: object, request: object) -> Document:
    """What is said of something that was deleted."""
    return {}
