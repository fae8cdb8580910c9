"""What a caller is told when a call fails: the one place where exceptions become statuses.

A `Failure` belongs to no transport. gRPC carries it in trailers, which hold 8 KiB and lose everything when they
overflow, so there it is cut to what fits; HTTP bodies carry all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RequestInfo,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from orchestrator.domain import refusals
from orchestrator.predicates.faults import Fault
from orchestrator.storage.outages import is_outage

logger = logging.getLogger(__name__)

DOMAIN = "orchestrator"

MAX_VIOLATIONS = 25
MAX_STATUS_BYTES = 6 * 1024
#: Of the status message, which travels once more as percent-encoded text.
MAX_MESSAGE_BYTES = 1024
#: Of each path, description and value; at most so many values.
MAX_TEXT_BYTES = 256
MAX_METADATA = 10

CODES: Mapping[type[refusals.Refusal], StatusCode] = {
    refusals.InvalidArgument: StatusCode.INVALID_ARGUMENT,
    refusals.Unauthenticated: StatusCode.UNAUTHENTICATED,
    refusals.PermissionDenied: StatusCode.PERMISSION_DENIED,
    refusals.NotFound: StatusCode.NOT_FOUND,
    refusals.AlreadyExists: StatusCode.ALREADY_EXISTS,
    refusals.FailedPrecondition: StatusCode.FAILED_PRECONDITION,
    refusals.Conflict: StatusCode.ABORTED,
    refusals.ResourceExhausted: StatusCode.RESOURCE_EXHAUSTED,
    refusals.Unavailable: StatusCode.UNAVAILABLE,
}

HTTP_STATUS: Mapping[StatusCode, int] = {
    StatusCode.CANCELLED: 499,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
}

_AGAIN_AT_ONCE = timedelta(milliseconds=100)
_AGAIN_SOON = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """`retry_after`: the same call may succeed then. `http_status` differs from the code's own in a few cases."""

    code: StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    retry_after: timedelta | None = None
    http_status: int | None = None


class MalformedRequest(refusals.InvalidArgument):
    """The bytes are no request at all, so no fault has a path."""

    def __init__(self, message: str) -> None:
        super().__init__([Fault(path="", reason="MALFORMED_REQUEST", message=message)])


class BodyTooLarge(refusals.InvalidArgument):
    """More bytes than a request may have; it was not read to its end."""

    def __init__(self, message: str) -> None:
        super().__init__([Fault(path="", reason="TOO_LARGE", message=message)])


class DeadlineExceeded(Exception):
    """The call's time ran out. What had begun is undone, but for a commit, which is seen through: so nobody who called
    knows whether it took effect.
    """


class TooManyCalls(refusals.ResourceExhausted):
    """Refused before any work was done for it; the same call may succeed after `retry_after`."""

    retry_after = _AGAIN_SOON


def failure_of(error: Exception, *, call_id: str, method: str) -> Failure:
    """What the caller is told about this error. An error nobody has foreseen is logged and leaves as INTERNAL."""
    match error:
        case refusals.Refusal():
            return _refused(error)
        case DeadlineExceeded() | asyncpg.QueryCanceledError():
            return Failure(
                code=StatusCode.DEADLINE_EXCEEDED, reason="DEADLINE_EXCEEDED", message="the call's time ran out"
            )
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError() | asyncpg.LockNotAvailableError():
            return Failure(
                code=StatusCode.ABORTED,
                reason="CONCURRENT_CHANGE",
                message="another call changed the same thing at the same time: try again",
                retry_after=_AGAIN_AT_ONCE,
            )
    if is_outage(error):
        logger.warning("database away", extra={"error": type(error).__name__, "call_id": call_id})
        return Failure(
            code=StatusCode.UNAVAILABLE,
            reason="UNAVAILABLE",
            message="the database does not answer: try again",
            retry_after=_AGAIN_SOON,
        )
    logger.error("unexpected error", exc_info=error, extra={"call_id": call_id, "method": method})
    return Failure(code=StatusCode.INTERNAL, reason="INTERNAL", message="an internal error occurred")


def to_status(failure: Failure, call_id: str) -> Status:
    """The complete status: every fault, however many."""
    return _status(failure, call_id, failure.message, failure.faults)


def to_fitting_status(failure: Failure, call_id: str) -> Status:
    """The status as gRPC can carry it: at most MAX_VIOLATIONS faults and MAX_STATUS_BYTES.

    `violationsOmitted` in the metadata counts the faults that were left out.
    """
    metadata = {_cut(k, 64): _cut(v, MAX_TEXT_BYTES) for k, v in list(failure.metadata.items())[:MAX_METADATA]}
    short = Failure(
        code=failure.code,
        reason=_cut(failure.reason, 63),
        message=_cut_encoded(failure.message, MAX_MESSAGE_BYTES),
        metadata=metadata,
        retry_after=failure.retry_after,
    )
    kept = tuple(
        Fault(path=_cut(f.path, MAX_TEXT_BYTES), reason=_cut(f.reason, 63), message=_cut(f.message, MAX_TEXT_BYTES))
        for f in failure.faults[:MAX_VIOLATIONS]
    )
    while True:
        omitted = len(failure.faults) - len(kept)
        counted = {**metadata, "violationsOmitted": str(omitted)} if omitted else metadata
        status = _status(_with_metadata(short, counted), call_id, short.message, kept)
        if not kept or status.ByteSize() <= MAX_STATUS_BYTES:
            return status
        kept = kept[:-1]


def to_json(failure: Failure, call_id: str) -> tuple[int, dict[str, Any]]:
    """The HTTP status, and the error body of AIP-193."""
    http_status = failure.http_status or HTTP_STATUS[failure.code]
    details = MessageToDict(to_status(failure, call_id)).get("details", [])
    error = {"code": http_status, "status": failure.code.name, "message": failure.message, "details": details}
    return http_status, {"error": error}


def _refused(refusal: refusals.Refusal) -> Failure:
    code = next(CODES[kind] for kind in type(refusal).__mro__ if kind in CODES)
    faults: tuple[Fault, ...] = ()
    metadata = {key: _clean(value) for key, value in refusal.metadata.items()}
    if isinstance(refusal, refusals.InvalidArgument | refusals.FailedPrecondition):
        faults = tuple(Fault(path=_clean(f.path), reason=f.reason, message=_clean(f.message)) for f in refusal.faults)
    if isinstance(refusal, refusals.InvalidArgument) and faults[0].path:
        metadata.setdefault("field", faults[0].path)
    return Failure(
        code=code,
        reason=refusal.reason,
        message=_clean(refusal.message),
        metadata=metadata,
        faults=faults,
        retry_after=_retry_after(refusal),
        http_status=_http_status(refusal),
    )


def _retry_after(refusal: refusals.Refusal) -> timedelta | None:
    if isinstance(refusal, TooManyCalls):
        return refusal.retry_after
    return _AGAIN_SOON if isinstance(refusal, refusals.Unavailable) else None


def _http_status(refusal: refusals.Refusal) -> int | None:
    if refusal.reason == "PLAN_LIMIT_REACHED":
        return 402
    return 413 if isinstance(refusal, BodyTooLarge) else None


def _status(failure: Failure, call_id: str, message: str, faults: tuple[Fault, ...]) -> Status:
    status = Status(code=failure.code.value[0], message=message)
    info = ErrorInfo(reason=failure.reason, domain=DOMAIN, metadata=failure.metadata)
    for detail in (info, *_further_details(failure, call_id, faults)):
        status.details.add().Pack(detail)
    return status


def _further_details(failure: Failure, call_id: str, faults: tuple[Fault, ...]) -> list[Message]:
    details: list[Message] = []
    match failure.code:
        case StatusCode.INVALID_ARGUMENT:
            violations = [
                BadRequest.FieldViolation(field=f.path, description=f.message, reason=f.reason) for f in faults
            ]
            details.append(BadRequest(field_violations=violations))
        case StatusCode.FAILED_PRECONDITION:
            preconditions = [
                PreconditionFailure.Violation(type=f.reason, subject=f.path, description=f.message) for f in faults
            ]
            details.append(PreconditionFailure(violations=preconditions))
        case StatusCode.NOT_FOUND | StatusCode.ALREADY_EXISTS | StatusCode.ABORTED if failure.metadata:
            key, name = next(iter(failure.metadata.items()))
            details.append(ResourceInfo(resource_type=key.removesuffix("Id"), resource_name=name))
        case StatusCode.RESOURCE_EXHAUSTED:
            quota = QuotaFailure.Violation(subject=failure.reason, description=failure.message)
            details.append(QuotaFailure(violations=[quota]))
        case StatusCode.INTERNAL:
            details.append(RequestInfo(request_id=call_id))
    if failure.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(failure.retry_after)
        details.append(RetryInfo(retry_delay=delay))
    return details


def _with_metadata(failure: Failure, metadata: Mapping[str, str]) -> Failure:
    return Failure(
        code=failure.code,
        reason=failure.reason,
        message=failure.message,
        metadata=metadata,
        retry_after=failure.retry_after,
    )


def _clean(text: str) -> str:
    """`text` without lone surrogates, which no protobuf string can hold."""
    return text.encode(errors="replace").decode()


def _cut(text: str, size: int) -> str:
    """Cut `text` so that it takes at most `size` bytes."""
    encoded = text.encode()
    return text if len(encoded) <= size else encoded[: size - 3].decode(errors="ignore") + "…"


def _cut_encoded(text: str, size: int) -> str:
    """Cut `text` so that it takes at most `size` bytes percent-encoded."""
    if len(quote(text)) <= size:
        return text
    cut = text[:size]
    while len(quote(cut)) > size - len(quote("…")):
        cut = cut[: len(cut) * 9 // 10]
    return cut + "…"
