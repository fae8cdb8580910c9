"""The documented calls in docs/openapi.json: what they take, and what they answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.api.annotations_pb2 import http
from google.api.field_behavior_pb2 import REQUIRED
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from orchestrator.api import openapi_statuses
from orchestrator.api.descriptors import behaves, json_fields, message_in
from orchestrator.api.documented.answer import Document
from orchestrator.api.documented.row import Row
from orchestrator.api.documented.rows import ROWS
from orchestrator.api.json_codec import WHOLE_REQUEST
from orchestrator.api.openapi_schemas import Schemas
from orchestrator.api.request_shapes import holder_of_etag

TAG = {"name": "Documented", "description": "Calls at the paths and in the words of five documents: see docs/http.md."}

#: What `components.responses` of failed calls begin with, and their body.
ERRORS = "DocumentedError"
ERROR: Document = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "requestId"],
            "properties": {
                "code": {"type": "string", "examples": ["event_name_required"]},
                "message": {"type": "string"},
                "requestId": {"type": "string"},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["path", "code", "message"],
                        "properties": {name: {"type": "string"} for name in ("path", "code", "message")},
                    },
                },
            },
        }
    },
}

_VARIABLE = re.compile(r"\{([a-z_.]+)\}")
_PROJECT: Document = {"description": "The project that the key is of.", "schema": {"type": "string"}}


def paths(
    methods: Mapping[str, MethodDescriptor], texts: Mapping[str, str], schemas: Schemas
) -> dict[str, dict[str, Any]]:
    """By path and verb. `methods` by service and name, as rows have them; `texts` are the comments of the protos."""
    found: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        method = methods[row.rpc]
        path = _VARIABLE.sub(lambda variable: f"{{{_parameter(variable[1])}}}", row.path)
        found.setdefault(path, {})[row.verb.lower()] = _operation(row, path, method, texts, schemas)
    return found


def _operation(
    row: Row, path: str, method: MethodDescriptor, texts: Mapping[str, str], schemas: Schemas
) -> dict[str, Any]:
    words = re.findall(r"\w+", _VARIABLE.sub("", path))
    rule = method.GetOptions().Extensions[http]
    text = texts[method.full_name]
    success: Document = {"description": "Done."}
    if row.status != 204:
        success["content"] = {"application/json": {"schema": row.answer.schema(schemas)}}
    responses = {str(row.status): success, **openapi_statuses.references(_failures(row, method, rule), ERRORS)}
    operation: Document = {
        "operationId": "_".join((method.name, row.verb.lower(), *words)),
        "tags": [TAG["name"]],
        "summary": text.partition("\n\n")[0],
        "description": text,
        "parameters": [*_path_parameters(row, method.input_type, schemas), *_query(row, method.input_type, schemas)],
        "responses": responses,
    }
    if "request_id" in method.input_type.fields_by_name:
        operation["parameters"].append({"$ref": "#/components/parameters/IdempotencyKey"})
    if holder_of_etag(method.input_type, row.verb, rule.body) is not None:
        operation["parameters"].append({"$ref": "#/components/parameters/IfMatch"})
    if rule.body and row.body.members != {}:
        schema = _body(row, method.input_type, rule.body, schemas)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _failures(row: Row, method: MethodDescriptor, rule: HttpRule) -> list[int]:
    """No document knows 413; and where it has a word for a store that fails, that is told with 500."""
    has_variables, has_body = "{" in row.path, bool(rule.body)
    statuses = openapi_statuses.failures(method, has_variables=has_variables, has_body=has_body)
    never = (413, 503, 504) if row.store_failed else (413,)
    return [status for status in statuses if status not in never]


def _path_parameters(row: Row, request: Descriptor, schemas: Schemas) -> Iterator[Document]:
    for variable in _VARIABLE.findall(row.path):
        if variable == "project_id":
            described = _PROJECT
        else:
            *way, name = variable.split(".")
            message = message_in(request.fields_by_name[way[0]]) if way else request
            described = _described(schemas.of(message.fields_by_name[name]))
        yield {"name": _parameter(variable), "in": "path", "required": True, **described}


def _query(row: Row, request: Descriptor, schemas: Schemas) -> Iterator[Document]:
    for name, place in row.parameters.items():
        schema = dict(row.body.own[name]) if name in row.body.own else schemas.of(_field_at(request, place))
        yield {"name": name, "in": "query", **_described(schema)}


def _body(row: Row, request: Descriptor, body_field: str, schemas: Schemas) -> Document:
    holder = request if body_field == WHOLE_REQUEST else message_in(request.fields_by_name[body_field])
    is_change = "update_mask" in request.fields_by_name
    if row.body.members is None:
        return schemas.changes(holder) if is_change else schemas.reference(holder)
    properties: Document = {}
    required = [*row.body.required]
    for name, place in row.body.members.items():
        if name in row.body.own:
            properties[name] = row.body.own[name]
        elif place:
            field = _field_at(holder, place)
            properties[name] = schemas.of(field, partial=is_change)
            if behaves(field, REQUIRED) and not is_change and not row.body.is_choice:
                required.append(name)
    return {"type": "object", **({"required": required} if required else {}), "properties": properties}


def _field_at(message: Descriptor, place: str) -> FieldDescriptor:
    """The field that a path of `/v1` leads to."""
    first, *rest = place.split(".")
    field = next(field for _, field in json_fields(message) if field.json_name == first)
    return _field_at(message_in(field), ".".join(rest)) if rest else field


def _parameter(variable: str) -> str:
    return variable.replace(".", "_")


def _described(schema: Document) -> Document:
    return {"description": schema.pop("description"), "schema": schema}
