"""The calls of an operator's machinery, as `/api/journeys/internal` has them: whoever travels is an end user there."""

from __future__ import annotations

from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.documented.answer import Document, described, object_of, or_null
from orchestrator.api.documented.members import same, with_all
from orchestrator.api.documented.row import Body
from orchestrator.api.json_encode import encode
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.v1 import erasure_pb2, erasure_service_pb2
from orchestrator.v1 import internal_service_pb2 as rpc

DISPATCH = Body(members={**same("projectKey", "timeLimit"), "endUserIds": "subjectIds", "maxEndUsers": "maxSubjects"})
START = Body(members={**same("projectKey", "journeyId", "entryKey", "event"), "endUserId": "subjectId"})
FORGET = Body(members={**same("projectKey"), "endUserId": "subjectId"}, required=("projectKey",))

#: By member: what of the answer it tells.
_COUNTS = {
    "endUsers": "subject_count",
    "entries": "entry_count",
    "started": "started_count",
    "poked": "poked_count",
    "failed": "failed_count",
    "more": "more",
}
#: What does not always apply.
_SAID = ("reason", "version", "executionId", "executionArn")


def _dispatched(schemas: Schemas) -> Document:
    fields = descriptor_of(rpc.DispatchEntriesResponse).fields_by_name
    return object_of({name: schemas.of(fields[field]) for name, field in _COUNTS.items()}, always=tuple(_COUNTS))


@described(_dispatched)
def dispatched(answer: rpc.DispatchEntriesResponse, request: object) -> Document:
    return {name: getattr(answer, field) for name, field in _COUNTS.items()}


def _started(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(rpc.StartExecutionResponse))
    nulls = {name: or_null(members[name]) for name in _SAID}
    return object_of({**members, **nulls}, always=("outcome", "already", *_SAID))


@described(_started)
def started(answer: rpc.StartExecutionResponse, request: object) -> Document:
    """What does not apply is null."""
    return with_all({**encode(answer), "already": answer.already}, dict.fromkeys(_SAID))


@described(lambda schemas: schemas.reference(descriptor_of(erasure_pb2.Erasure)))
def forgotten(answer: erasure_service_pb2.ForgetSubjectResponse, request: object) -> Document:
    """How far it has come."""
    told: Document = encode(answer.erasure)
    return told
