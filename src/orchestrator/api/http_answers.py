"""Answers over HTTP: their headers, and what those of failed calls say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from grpc import StatusCode
from starlette.responses import Response

from orchestrator.api.errors import Failure, to_json
from orchestrator.api.json_text import write_json

JSON = "application/json"

#: (failure, call id) -> the status and the body that tell of it.
Telling = Callable[[Failure, str], tuple[int, dict[str, Any]]]


def headers_of(call_id: str) -> dict[str, str]:
    """What every answer has. No cache may keep one: it is for who showed a key, and the URL does not say who did."""
    return {"X-Request-Id": call_id, "Cache-Control": "no-store"}


def failed(failure: Failure, call_id: str, tell: Telling = to_json) -> Response:
    """The answer to a call that failed."""
    status, document = tell(failure, call_id)
    headers = headers_of(call_id)
    if failure.code is StatusCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if failure.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(failure.retry_after.total_seconds())))
    return Response(write_json(document), status_code=status, headers=headers, media_type=JSON)


def etag_header(document: Mapping[str, Any]) -> dict[str, str]:
    """`ETag`, where the document that is sent has one."""
    return {"ETag": f'"{document["etag"]}"'} if document.get("etag") else {}


def no_such_path(call_id: str, tell: Telling = to_json) -> Response:
    failure = Failure(code=StatusCode.NOT_FOUND, reason="METHOD_NOT_FOUND", message="no such path")
    return failed(failure, call_id, tell)


def wrong_verb(verb: str, allowed: tuple[str, ...], call_id: str, tell: Telling = to_json) -> Response:
    """The answer to a verb that the path does not have; OPTIONS asks for those that it has."""
    verbs = ", ".join(sorted({*allowed, "OPTIONS", *(["HEAD"] if "GET" in allowed else [])}))
    if verb == "OPTIONS":
        return Response(status_code=204, headers={"Allow": verbs, **headers_of(call_id)})
    failure = Failure(
        code=StatusCode.UNIMPLEMENTED,
        reason="METHOD_NOT_FOUND",
        message=f"{verb} is not possible here",
        metadata={"allowed": verbs},
        http_status=405,
    )
    response = failed(failure, call_id, tell)
    response.headers["Allow"] = verbs
    return response
