"""What every HTTP request brings, whatever its path, and the way to the pipeline: key, body, time limit, conditions."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request

from orchestrator.api.auth import is_bearer, key_of
from orchestrator.api.client_certificates import names_of_request
from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.errors import BodyTooLarge, Failure, MalformedRequest
from orchestrator.api.field_limits import request_bytes
from orchestrator.api.peers import peer_of
from orchestrator.api.pipeline import DEFAULT_TIME_LIMIT, TRACE_HEADER, Arrival, Pipeline, Read
from orchestrator.api.request_shapes import holder_of_etag
from orchestrator.api.routes import Binding
from orchestrator.predicates.faults import Fault

COOKIE = "session"
IDEMPOTENCY_HEADER = "Idempotency-Key"
TIMEOUT_HEADER = "X-Timeout-Ms"

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_ETAG = re.compile(r'(?:W/)?"([!#-~]{1,128})"|([!#-+\--~]{1,128})')
_MILLISECONDS = re.compile(r"[0-9]{1,9}")
_SMALL_BODY = 64 * 1024
#: What a call has whose time is over, in seconds: it is refused like any other that is late.
_INSTANT = 0.001
_SAFE = ("GET", "HEAD")
_OTHER_CONDITIONS = ("If-None-Match", "If-Unmodified-Since")

#: From the bytes of a body to the request, and what is wrong with it.
Make = Callable[[bytes], "tuple[Message, list[Fault]]"]
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Served:
    """What came of a call. `unread`: its body was not read, and may have no end."""

    answer: bytes | Failure
    unread: bool


class HttpArrivals:
    """Hands HTTP requests to the pipeline."""

    def __init__(self, pipeline: Pipeline, allowed_origins: Collection[str]) -> None:
        """Pages of `allowed_origins` may use the `session` cookie, as our own may."""
        self._pipeline = pipeline
        self._allowed_origins = frozenset(allowed_origins)

    async def serve(
        self,
        request: Request,
        binding: Binding,
        call_id: str,
        make: Make,
        *,
        project_id: str | None = None,
        began: float | None = None,
    ) -> Served:
        """`project_id` is the project that the URL names, if it names one. `began`, of the monotonic clock, is given
        where this is not the first call of a request: all of them have the time of one, and the body has been read.
        """
        try:
            time_left, faults = _time_left(request.headers), []
        except _MalformedHeader as wrong:
            time_left, faults = None, [wrong.fault]
        if began is not None:
            allowed = DEFAULT_TIME_LIMIT.total_seconds() if time_left is None else time_left
            time_left = max(_INSTANT, allowed - (time.monotonic() - began))

        unread = _has_large_body(request)

        async def read() -> Read:
            nonlocal unread
            most = request_bytes(descriptor_of(binding.method.request))
            body = await _body(request, most) if began is None else b""
            unread = False
            message, wrong = await self._pipeline.made(make, body)
            return Read(message, [*faults, *wrong, *_take_headers(message, binding, request.headers)])

        answer = await self._pipeline.serve(
            Arrival(
                method=binding.method,
                transport="http",
                peer=peer_of(request.client.host) if request.client is not None else "",
                key=key_of(request.headers) or self._key_in_cookie(request),
                as_bearer=is_bearer(request.headers),
                call_id=call_id,
                time_left=time_left,
                read=read,
                project_id=project_id,
                traceparent=request.headers.get(TRACE_HEADER),
                client_names=partial(names_of_request, request),
            )
        )
        return Served(answer, unread)

    async def made(self, make: Callable[[bytes], _Made], answer: bytes) -> _Made:
        """What `make` makes of an answer's bytes, as the pipeline has it done (`Pipeline.made`)."""
        return await self._pipeline.made(make, answer)

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
            trusted = origin == own or origin in self._allowed_origins
        return request.cookies[COOKIE] if trusted else ""


def raw_path(request: Request) -> str:
    """The path as it came, percent-encoded still."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("latin-1")


def query_of(request: Request) -> list[tuple[str, str]]:
    """The parameters, in order."""
    # What is no UTF-8 becomes half of a surrogate pair, which no field takes: it must not turn into another text.
    text = request.scope["query_string"].decode("latin-1")
    return parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


class _MalformedHeader(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


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
    """Seconds the caller allows. Raises _MalformedHeader."""
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    if _MILLISECONDS.fullmatch(text) is None or int(text) == 0:
        raise _MalformedHeader(
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
