"""The calls of an operator's machinery, as `/api/journeys/internal` has them: whoever travels is an end user there."""

from __future__ import annotations

from typing import Any

from orchestrator.api.descriptors import descriptor_of, json_fields
from orchestrator.api.documented.answer import Document, described, object_of, or_null
from orchestrator.api.documented.members import same, with_all
from orchestrator.api.documented.row import IGNORED, Body, Given, Meant
from orchestrator.api.json_encode import encode
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import bundle_pb2 as bundles
from orchestrator.v1 import bundle_service_pb2, erasure_pb2, erasure_service_pb2, pinpoint_service_pb2
from orchestrator.v1 import internal_service_pb2 as rpc

DISPATCH = Body(members={**same("projectKey", "timeLimit"), "endUserIds": "subjectIds", "maxEndUsers": "maxSubjects"})
START = Body(members={**same("projectKey", "journeyId", "entryKey", "event"), "endUserId": "subjectId"})
FORGET = Body(members={**same("projectKey"), "endUserId": "subjectId"}, required=("projectKey",))

TRANSLATE = Body(members=same("projectKey", "exports", "smsUrl", "pushUrl"), required=("projectKey",))

#: Members of a bundle, by what `/v1` calls them, whose body is the bundle itself.
_OF_BUNDLE = {field.json_name: f"bundle.{field.json_name}" for _, field in json_fields(descriptor_of(bundles.Bundle))}


def unwrap_bundle(given: Given, meant: Meant) -> None:
    """The bundle as the body, and as parameters what stands beside it."""
    meant.document, meant.places = {}, {**_OF_BUNDLE, "validateOnly": "dryRun"}
    bundle, project_key, dry_run = (given.document.get(name) for name in ("bundle", "projectKey", "dryRun"))
    if isinstance(bundle, dict):
        meant.document = bundle
    else:
        meant.faults.append(_wrong("bundle", bundle, "an object"))
    if isinstance(project_key, str):
        meant.query.append(("projectKey", project_key))
    elif project_key is not None:
        meant.faults.append(_wrong("projectKey", project_key, "a text"))
    if isinstance(dry_run, bool):
        meant.query.append(("validateOnly", "true" if dry_run else "false"))
    elif dry_run is not None:
        meant.faults.append(_wrong("dryRun", dry_run, "true or false"))


def _wrong(name: str, value: Any, wanted: str) -> Fault:
    if value is None:
        return Fault(path=name, reason="REQUIRED", message="must be given")
    return Fault(path=name, reason="INVALID_TYPE", message=f"must be {wanted}")


IMPORT = Body(
    members={"projectKey": IGNORED, "bundle": IGNORED, "dryRun": IGNORED},
    own={
        "projectKey": {"type": "string", "description": "Into this project."},
        "bundle": {"$ref": "#/components/schemas/Bundle", "description": "What shall be."},
        "dryRun": {"type": "boolean", "description": "Says what would come of it, and does nothing."},
    },
    required=("projectKey", "bundle"),
    finish=unwrap_bundle,
)


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


def _translated(schemas: Schemas) -> Document:
    members = schemas.members(descriptor_of(pinpoint_service_pb2.TranslatePinpointResponse))
    return object_of(members, always=("bundle", "findings"))


@described(_translated)
def translated(answer: pinpoint_service_pb2.TranslatePinpointResponse, request: object) -> Document:
    """The bundle as import-bundle takes it."""
    return {"bundle": encode(answer.bundle), "findings": [encode(finding) for finding in answer.findings]}


#: By member: what of the answer it tells.
_IMPORTED = {
    "created": "created_count",
    "updated": "updated_count",
    "unchanged": "unchanged_count",
    "published": "published_count",
}


def _imported(schemas: Schemas) -> Document:
    fields = descriptor_of(bundle_service_pb2.ImportBundleResponse).fields_by_name
    members = {name: schemas.of(fields[field]) for name, field in _IMPORTED.items()}
    done: Document = {"type": "boolean", "description": "Whether nothing of it was done."}
    told = {"changes": schemas.of(fields["changes"]), **members, "etag": schemas.of(fields["etag"]), "dryRun": done}
    return object_of(told, always=tuple(told))


@described(_imported)
def imported(
    answer: bundle_service_pb2.ImportBundleResponse, request: bundle_service_pb2.ImportBundleRequest
) -> Document:
    return {
        "changes": [encode(change) for change in answer.changes],
        **{name: getattr(answer, field) for name, field in _IMPORTED.items()},
        "etag": answer.etag,
        "dryRun": request.validate_only,
    }
