"""Audiences as `/api/audiences` has them: those of `/v1`, under other paths."""

from __future__ import annotations

from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.documented.answer import Document, described, list_of, object_of
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.members import with_all
from orchestrator.api.json_encode import encode
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.v1 import audience_pb2 as pb
from orchestrator.v1 import audience_service_pb2 as rpc

ERRORS = ErrorForm(
    named=frozenset({"EVENT_NAME_REQUIRED", "FIELD_PATH_REQUIRED", "COHORT_NOT_FOUND", "EMPTY_CLAUSES"}),
)


#: What the document shows of each, and the etag.
_ALWAYS = ("id", "projectKey", "name", "description", "subjectType", "predicate", "createdAt", "updatedAt", "etag")


def _audience(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(pb.Audience))
    return schemas.named("DocumentedAudience", object_of(members, always=_ALWAYS))


@described(lambda schemas: list_of(_audience(schemas)))
def listed(answer: rpc.ListAudiencesResponse, request: rpc.ListAudiencesRequest) -> list[Document]:
    return [audience_document(audience) for audience in answer.audiences]


@described(_audience)
def shown(
    answer: rpc.GetAudienceResponse | rpc.CreateAudienceResponse | rpc.UpdateAudienceResponse, request: object
) -> Document:
    return audience_document(answer.audience)


def audience_document(audience: pb.Audience) -> Document:
    return with_all(encode(audience), {"description": ""})


@described(lambda schemas: object_of({}, always=()))
def gone(answer: object, request: object) -> Document:
    """What is said of something that was deleted."""
    return {}
