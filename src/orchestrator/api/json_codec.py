"""Requests and responses as JSON: the body, the path and the query of an HTTP call as one message, and the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from orchestrator.api import field_masks
from orchestrator.api.descriptors import descriptor_of, fields_of
from orchestrator.api.fault_relations import unrelated
from orchestrator.api.field_limits import request_bytes
from orchestrator.api.json_decode import decode_into, decode_text
from orchestrator.api.json_encode import encode
from orchestrator.api.json_text import parse_json, tell, write_json
from orchestrator.api.message_check import check_message
from orchestrator.api.request_shapes import shape_of
from orchestrator.predicates.faults import Fault, Wrong, under

_M = TypeVar("_M", bound=Message)

WHOLE_REQUEST = "*"


def read_request(
    kind: type[_M],
    *,
    body_field: str,
    body: bytes,
    path: Mapping[str, str],
    query: Iterable[tuple[str, str]],
) -> tuple[_M, list[Fault]]:
    """The request of an HTTP call, in the form in which handlers see it, and everything that is wrong with it.

    `body_field` is the body of the call's http rule: a field, `*` or nothing. `path` holds the URL's variables by their
    names in the rule (`audience.id`), `query` its decoded parameters in order. Without an `updateMask` the members of
    the body are what an update changes.
    """
    if len(body) > (most := request_bytes(descriptor_of(kind))):
        return kind(), [Fault(path="", reason="TOO_LARGE", message=f"a request has at most {most} bytes")]
    try:
        document = read_object(body)
    except Wrong as wrong:
        return kind(), [wrong.fault]
    return request_of(kind, body_field=body_field, document=document, path=path, query=query)


def read_object(body: bytes) -> dict[str, Any]:
    """The object that a body is; an empty body is an empty one. Raises Wrong for what is no JSON object at all."""
    document = parse_json(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise Wrong("", "INVALID_TYPE", "the body must be an object")
    return document


def request_of(
    kind: type[_M],
    *,
    body_field: str,
    document: dict[str, Any],
    path: Mapping[str, str],
    query: Iterable[tuple[str, str]],
) -> tuple[_M, list[Fault]]:
    """As `read_request`, from the body's object."""
    request = kind()
    faults: list[Fault] = []
    if not body_field and document:
        return request, [Fault(path="", reason="MALFORMED_REQUEST", message="this call takes no body")]
    _read_body(request, body_field, document, faults)
    _read_query(request, body_field, path, query, faults)
    if body_field not in ("", WHOLE_REQUEST) and "update_mask" in descriptor_of(request).fields_by_name:
        _read_mask(request, descriptor_of(getattr(request, body_field)))
    for name, text in path.items():
        _read_variable(request, name, text, faults)
    return request, faults + unrelated(faults, check_message(request))


def write_response(response: Message, response_body: str = "") -> bytes:
    """The body of an answer. `response_body` is that of the call's http rule: a field, or nothing for all of it."""
    return write_json(encode(getattr(response, response_body) if response_body else response))


def _read_body(request: Message, body_field: str, document: dict[str, Any], faults: list[Fault]) -> None:
    if not body_field:
        return
    if body_field == WHOLE_REQUEST:
        decode_into(request, document, "", faults)
        return
    resource = getattr(request, body_field)
    resource.SetInParent()
    decode_into(resource, document, "", faults)
    if "update_mask" in descriptor_of(request).fields_by_name:
        paths = field_masks.paths_of_document(descriptor_of(resource), document)
        fields_of(request).update_mask.paths.extend(paths)


def _read_query(
    request: Message, body_field: str, path: Mapping[str, str], query: Iterable[tuple[str, str]], faults: list[Fault]
) -> None:
    descriptor = descriptor_of(request)
    texts: dict[str, list[str]] = {}
    for name, text in query:
        texts.setdefault(name, []).append(text)
    for name, values in texts.items():
        resolved = field_masks.resolve(descriptor, name)
        field = descriptor.fields_by_name.get(resolved) if resolved is not None else None
        taken = field is None or field.name in path or body_field in (WHOLE_REQUEST, field.name)
        if field is None or taken or not _has_text(field):
            text = "no such parameter" if field is None else "is not taken from the query"
            faults.append(Fault(path=under("", tell(name)), reason="UNKNOWN_FIELD", message=text))
            continue
        request.ClearField(field.name)
        decode_text(request, field, values, field.json_name, faults)


def _read_mask(request: Any, resource: Descriptor) -> None:
    paths = [field_masks.as_in_messages(resource, path) for path in request.update_mask.paths]
    del request.update_mask.paths[:]
    request.update_mask.paths.extend(paths)


def _has_text(field: FieldDescriptor) -> bool:
    return field.message_type is None or field.message_type.full_name in (
        "google.protobuf.Duration",
        "google.protobuf.FieldMask",
        "google.protobuf.Timestamp",
    )


def _read_variable(request: Message, name: str, text: str, faults: list[Fault]) -> None:
    *way, last = name.split(".")
    message = request
    for step in way:
        message = getattr(message, step)
    field = descriptor_of(message).fields_by_name[last]
    descriptor = descriptor_of(request)
    at = shape_of(descriptor).json_path(descriptor, name)
    in_body = getattr(message, last)
    if in_body and str(in_body) != text:
        faults.append(Fault(path=at, reason="INVALID_VALUE", message="differs from what the URL names"))
        return
    decode_text(message, field, [text], at, faults)
