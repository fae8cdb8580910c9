"""HTTP/JSON: from a request to the pipeline and back, for every RPC by its `google.api.http` rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.message import Message
from grpc import StatusCode
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from orchestrator.api import json_codec
from orchestrator.api.auth import key_of
from orchestrator.api.call_ids import call_id_of
from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.errors import BodyTooLarge, Failure, MalformedRequest, to_json
from orchestrator.api.field_limits import request_bytes
from orchestrator.api.json_text import write_json
from orchestrator.api.peers import peer_of
from orchestrator.api.pipeline import Arrival, Pipeline, Read
from orchestrator.api.request_shapes import holder_of_etag
from orchestrator.api.routes import Binding, Match, Routes, WrongVerb
from orchestrator.predicates.faults import Fault

COOKIE = "session"
IDEMPOTENCY_HEADER = "Idempotency-Key"
TIMEOUT_HEADER = "X-Timeout-Ms"
JSON = "application/json"

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_ETAG = re.compile(r'(?:W/)?"([!#-~]{1,128})"|([!#-+\--~]{1,128})')
_MILLISECONDS = re.compile(r"[0-9]{1,9}")
_SMALL_BODY = 64 * 1024
_SAFE = ("GET", "HEAD")
_OTHER_CONDITIONS = ("If-None-Match", "If-Unmodified-Since")


class HttpCalls:
    """Everything under /v1."""

    def __init__(self, pipeline: Pipeline, routes: Routes, *, allowed_origins: Sequence[str]) -> None:
        self._pipeline = pipeline
        self._routes = routes
        #: Pages from there may use the `session` cookie, as our own may.
        self.allowed_origins = frozenset(allowed_origins)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        headers = request.headers
        call_id = call_id_of(headers)
        verb = "GET" if request.method == "HEAD" else request.method
        found = self._routes.find(verb, _raw_path(request))
        match found:
            case Match():
                return await self._serve(request, found, call_id)
            case WrongVerb(allowed=allowed):
                return _wrong_verb(request.method, allowed, call_id)
            case None:
                failure = Failure(code=StatusCode.NOT_FOUND, reason="METHOD_NOT_FOUND", message="no such path")
                return failed(failure, call_id)

    async def _serve(self, request: Request, match: Match, call_id: str) -> Response:
        binding = match.binding
        try:
            time_left, faults = _time_left(request.headers), []
        except MalformedHeader as wrong:
            time_left, faults = None, [wrong.fault]

        unread = _has_large_body(request)

        async def read() -> Read:
            nonlocal unread
            body = await _body(request, request_bytes(descriptor_of(binding.method.request)))
            unread = False
            message, wrong = json_codec.read_request(
                binding.method.request,
                body_field=binding.body,
                body=body,
                path=match.path_fields,
                query=_query(request),
            )
            return Read(message, [*faults, *wrong, *_take_headers(message, binding, request.headers)])

        answer = await self._pipeline.serve(
            Arrival(
                method=binding.method,
                transport="http",
                peer=peer_of(request.client.host) if request.client is not None else "",
                key=key_of(request.headers) or self._key_in_cookie(request),
                call_id=call_id,
                time_left=time_left,
                read=read,
            )
        )
        if isinstance(answer, Failure):
            response = failed(answer, call_id)
            if unread:
                # Nobody waits for the rest of a body that may have no end.
                response.headers["Connection"] = "close"
            return response
        return _succeeded(binding, answer, call_id)

    def _key_in_cookie(self, request: Request) -> str:
        """The key of the `session` cookie, which browsers send along from any page: only our own pages may use it."""
        if "authorization" in request.headers or COOKIE not in request.cookies:
            return ""
        origin = request.headers.get("origin")
        if origin is None:
            site = request.headers.get("sec-fetch-site", "none")
            trusted = request.method in _SAFE and site in ("none", "same-origin")
        else:
            own = f"{request.url.scheme}://{request.headers.get('host', '')}"
            trusted = origin == own or origin in self.allowed_origins
        return request.cookies[COOKIE] if trusted else ""


class MalformedHeader(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def failed(failure: Failure, call_id: str) -> Response:
    """The answer to a call that failed."""
    status, document = to_json(failure, call_id)
    headers = _headers(call_id)
    if failure.code is StatusCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if failure.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(failure.retry_after.total_seconds())))
    return Response(write_json(document), status_code=status, headers=headers, media_type=JSON)


def _headers(call_id: str) -> dict[str, str]:
    """What every answer has. No cache may keep one: it is for who showed a key, and the URL does not say who did."""
    return {"X-Request-Id": call_id, "Cache-Control": "no-store"}


def _succeeded(binding: Binding, answer: bytes, call_id: str) -> Response:
    message = binding.method.response.FromString(answer)
    headers = _headers(call_id)
    shown: Message = getattr(message, binding.response_body) if binding.response_body else message
    if "etag" in descriptor_of(shown).fields_by_name and shown.etag:  # type: ignore[attr-defined]
        headers["ETag"] = f'"{shown.etag}"'  # type: ignore[attr-defined]
    body = json_codec.write_response(message, binding.response_body)
    return Response(body, headers=headers, media_type=JSON)


def _wrong_verb(verb: str, allowed: tuple[str, ...], call_id: str) -> Response:
    verbs = ", ".join(sorted({*allowed, "OPTIONS", *(["HEAD"] if "GET" in allowed else [])}))
    if verb == "OPTIONS":
        return Response(status_code=204, headers={"Allow": verbs, **_headers(call_id)})
    failure = Failure(
        code=StatusCode.UNIMPLEMENTED,
        reason="METHOD_NOT_FOUND",
        message=f"{verb} is not possible here",
        metadata={"allowed": verbs},
        http_status=405,
    )
    response = failed(failure, call_id)
    response.headers["Allow"] = verbs
    return response


def _raw_path(request: Request) -> str:
    raw: bytes = request.scope["raw_path"]
    return raw.decode("latin-1")


def _query(request: Request) -> list[tuple[str, str]]:
    # What is no UTF-8 becomes half of a surrogate pair, which no field takes: it must not turn into another text.
    text = request.scope["query_string"].decode("latin-1")
    return parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


def _has_large_body(request: Request) -> bool:
    length = request.headers.get("content-length", "0")
    return int(length) > _SMALL_BODY or "transfer-encoding" in request.headers


async def _body(request: Request, most: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as that is known."""
    too_large = BodyTooLarge(f"a request has at most {most} bytes")
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large
            parts.append(part)
    except ClientDisconnect:
        raise MalformedRequest("the body ended early") from None
    return b"".join(parts)


def _time_left(headers: Mapping[str, str]) -> float | None:
    """Seconds the caller allows. Raises MalformedHeader."""
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    if _MILLISECONDS.fullmatch(text) is None or int(text) == 0:
        raise MalformedHeader(
            Fault(path=TIMEOUT_HEADER, reason="INVALID_VALUE", message="must be a number of milliseconds above 0")
        )
    return int(text) / 1000


def _take_headers(message: Any, binding: Binding, headers: Mapping[str, str]) -> list[Fault]:
    """Put into the message what headers say of it, and say what is wrong with them."""
    faults: list[Fault] = []
    key = headers.get(IDEMPOTENCY_HEADER)
    if key is not None and binding.method.has_request_id:
        if _REQUEST_ID.fullmatch(key) is None:
            text = "must be 1 to 128 visible ASCII characters"
            faults.append(Fault(path=IDEMPOTENCY_HEADER, reason="INVALID_VALUE", message=text))
        elif message.request_id not in ("", key):
            text = "differs from the request id in the request"
            faults.append(Fault(path=IDEMPOTENCY_HEADER, reason="INVALID_VALUE", message=text))
        else:
            message.request_id = key
    return [*faults, *_take_conditions(message, binding, headers)]


def _take_conditions(message: Any, binding: Binding, headers: Mapping[str, str]) -> list[Fault]:
    """Put the etag of If-Match where the request has a place for one. What nobody would check is a fault."""
    faults = [
        Fault(path=name, reason="INVALID_VALUE", message="is not understood here: use If-Match")
        for name in _OTHER_CONDITIONS
        if name in headers and binding.verb not in _SAFE
    ]
    condition = headers.get("If-Match")
    if condition is None:
        return faults
    holder = holder_of_etag(message.DESCRIPTOR, binding.verb, binding.body)
    etag = _ETAG.fullmatch(condition.strip())
    if holder is None:
        faults.append(Fault(path="If-Match", reason="INVALID_VALUE", message="nothing here has an etag to compare"))
    elif condition.strip() == "*":
        # That there is something is seen anyway, but where it would be made.
        if binding.verb == "PUT":
            faults.append(Fault(path="If-Match", reason="INVALID_VALUE", message="must be one etag"))
    elif etag is None:
        faults.append(Fault(path="If-Match", reason="INVALID_VALUE", message="must be one etag, or *"))
    else:
        (getattr(message, holder) if holder else message).etag = etag[1] or etag[2]
    return faults
