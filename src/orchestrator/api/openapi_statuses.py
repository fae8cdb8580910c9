"""With which statuses a call of docs/openapi.json can fail, and what each of them says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

MEANINGS: dict[int, str] = {
    400: "What is asked for is wrong in itself, or in the state that things are in. Every fault is told.",
    401: "There is no key, or none that is known here.",
    402: "The project has as many published journeys as it may have.",
    403: "The key's role may not do this, or nobody may.",
    404: "There is nothing of this name in the key's project.",
    409: "Something has changed, is being changed, or is there already.",
    413: "More bytes than a request may have.",
    429: "Too many calls: try again after `Retry-After`.",
    500: "A mistake of the server's. Its log has more under the request id.",
    503: "The database does not answer: try again after `Retry-After`.",
    504: "The time of the call ran out. What it would have changed may be changed.",
}

#: Calls by which a journey can come to be published.
_PUBLISHING = ("PublishJourney", "UpdateJourney")


def failures(method: MethodDescriptor, *, has_variables: bool, has_body: bool) -> Iterator[int]:
    """The statuses of failures, in order. `has_variables`: the URL names something."""
    names = [field.name for field in method.input_type.fields if field.name != "request_id"]
    yield from (400, 401)
    if method.name in _PUBLISHING:
        yield 402
    yield 403
    if has_variables or has_body or any(name.endswith("_id") for name in names):
        yield 404
    if method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS:
        yield 409
    if has_body:
        yield 413
    yield from (429, 500, 503, 504)


def references(statuses: Iterable[int], prefix: str) -> dict[str, Any]:
    """`responses` of an operation, for these statuses; `prefix` is that of the components."""
    return {str(status): {"$ref": f"#/components/responses/{prefix}{status}"} for status in statuses}


def components(schema: dict[str, Any], prefix: str) -> dict[str, Any]:
    """`components.responses` with this body."""
    return {
        f"{prefix}{status}": {"description": meaning, "content": {"application/json": {"schema": schema}}}
        for status, meaning in MEANINGS.items()
    }
