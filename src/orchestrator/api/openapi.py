"""docs/openapi.json: the HTTP face of the contract, made from the protos, their comments and the limits of fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.api.annotations_pb2 import http
from google.api.field_behavior_pb2 import REQUIRED
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodOptions

import orchestrator
from orchestrator.api import openapi_statuses
from orchestrator.api.descriptors import behaves, message_in
from orchestrator.api.documented import contract
from orchestrator.api.http_arrivals import COOKIE
from orchestrator.api.methods import services
from orchestrator.api.openapi_schemas import ERROR, Schemas
from orchestrator.api.proto_comments import comments
from orchestrator.api.request_shapes import holder_of_etag, url_of

#: What `components.responses` of failed calls begin with.
ERRORS = "Error"

_VARIABLE = re.compile(r"\{([a-z_.]+)\}")

_ABOUT = (
    "Every RPC of orchestrator.v1 over HTTP and JSON, and the calls of five documents that others wrote.\n\n"
    "Members are in lowerCamelCase; snake_case is understood too. Unknown members, and values beyond a field's limits, "
    "are refused, all of them at once, each with its path. Calls that change something take a header "
    "`Idempotency-Key` (or `requestId`), under which repeats are safe; events bring ids of their own instead. Calls "
    "that change or delete one thing take `If-Match` with its etag, and no others do."
)


def document_path() -> Path:
    """Where the committed document is: in the installed package, else in the source tree."""
    package = Path(orchestrator.__file__).parent
    installed = package / "openapi.json"
    return installed if installed.is_file() else package.parent.parent / "docs" / "openapi.json"


def document(image: FileDescriptorSet) -> dict[str, Any]:
    """The OpenAPI 3.1 document. `image` is the compiled protos with their comments."""
    texts = comments(image)
    schemas = Schemas(texts)
    paths: dict[str, dict[str, Any]] = {}
    tags = []
    for service in services():
        tag = service.name.removesuffix("Service")
        tags.append({"name": tag, "description": texts[service.full_name]})
        for method in service.methods:
            rule = method.GetOptions().Extensions[http]
            for number, binding in enumerate((rule, *rule.additional_bindings)):
                operation = _operation(method, binding, tag, texts, schemas)
                if number:
                    operation["operationId"] += f"_{number + 1}"
                verb = str(binding.WhichOneof("pattern"))
                paths.setdefault(_path(binding), {})[verb] = operation
    methods = {f"{service.name}/{method.name}": method for service in services() for method in service.methods}
    paths |= contract.paths(methods, texts, schemas)
    responses = {
        **openapi_statuses.components(schemas.named("Error", ERROR), ERRORS),
        **openapi_statuses.components(schemas.named("DocumentedError", contract.ERROR), contract.ERRORS),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Orchestrator", "version": "v1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"bearer": []}, {"session": []}],
        "tags": [*tags, contract.TAG],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "For pages of this origin, and of those that the server is told to allow.",
                },
            },
            "responses": responses,
            "parameters": {
                "IdempotencyKey": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "Makes repeats safe: the first answer is kept for 7 days and returned again.",
                    "schema": {"type": "string", "maxLength": 128},
                },
                "IfMatch": {
                    "name": "If-Match",
                    "in": "header",
                    "description": "An etag: refuses when something changed since it was read.",
                    "schema": {"type": "string"},
                },
            },
        },
    }


def _operation(
    method: MethodDescriptor, binding: HttpRule, tag: str, texts: Mapping[str, str], schemas: Schemas
) -> dict[str, Any]:
    text = texts[method.full_name]
    summary, _, _ = text.partition("\n\n")
    request = method.input_type
    operation: dict[str, Any] = {
        "operationId": method.name,
        "tags": [tag],
        "summary": summary,
        "description": text,
        "parameters": [*_path_parameters(request, binding, schemas), *_query_parameters(request, binding, schemas)],
    }
    mutates = method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS
    if mutates and "request_id" in request.fields_by_name:
        operation["parameters"].append({"$ref": "#/components/parameters/IdempotencyKey"})
    if holder_of_etag(request, str(binding.WhichOneof("pattern")), binding.body) is not None:
        operation["parameters"].append({"$ref": "#/components/parameters/IfMatch"})
    if binding.body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _body_schema(request, binding, schemas)}},
        }
    answer = method.output_type
    failures = openapi_statuses.failures(method, has_variables=bool(_variables(binding)), has_body=bool(binding.body))
    shown = message_in(answer.fields_by_name[binding.response_body]) if binding.response_body else answer
    operation["responses"] = {
        "200": {
            "description": texts[shown.full_name].partition("\n\n")[0],
            "content": {"application/json": {"schema": schemas.reference(shown)}},
        },
        **openapi_statuses.references(failures, ERRORS),
    }
    return operation


def _path(binding: HttpRule) -> str:
    return _VARIABLE.sub(lambda variable: f"{{{_parameter(variable[1])}}}", url_of(binding))


def _parameter(variable: str) -> str:
    """`audience.id` and `audience_id` are one parameter; `suppression.subject_id` is the subject's."""
    message, dot, name = variable.partition(".")
    return f"{message}_id" if dot and name == "id" else name or message


def _variables(binding: HttpRule) -> list[str]:
    return _VARIABLE.findall(url_of(binding))


def _path_parameters(request: Descriptor, binding: HttpRule, schemas: Schemas) -> list[dict[str, Any]]:
    parameters = []
    for variable in _variables(binding):
        message, name = request, variable
        if "." in variable:
            first, name = variable.split(".")
            message = message_in(request.fields_by_name[first])
        parameters.append(
            {
                "name": _parameter(variable),
                "in": "path",
                "required": True,
                **_described(message.fields_by_name[name], schemas),
            }
        )
    return parameters


def _query_parameters(request: Descriptor, binding: HttpRule, schemas: Schemas) -> list[dict[str, Any]]:
    if binding.body == "*":
        return []
    elsewhere = {binding.body, *_variables(binding), *(variable.split(".")[0] for variable in _variables(binding))}
    return [
        {"name": field.json_name, "in": "query", **_described(field, schemas)}
        for field in request.fields
        if field.name not in elsewhere
    ]


def _described(field: FieldDescriptor, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(field)
    description = schema.pop("description")
    required = {"required": True} if behaves(field, REQUIRED) else {}
    return {"description": description, **required, "schema": schema}


def _body_schema(request: Descriptor, binding: HttpRule, schemas: Schemas) -> dict[str, Any]:
    if binding.body == "*":
        return schemas.reference(request, without=frozenset(_variables(binding)))
    resource = message_in(request.fields_by_name[binding.body])
    if "update_mask" in request.fields_by_name:
        return schemas.changes(resource)
    named = frozenset(name.partition(".")[2] for name in _variables(binding) if name.startswith(f"{binding.body}."))
    return schemas.reference(resource, without=named)
