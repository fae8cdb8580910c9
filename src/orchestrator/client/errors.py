"""What a caller is told when a call fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

_STATUS_TRAILER = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request, or stands in its way. `path` is where: `predicate.clauses[1].eventName`.

    `reason` is stable and made for programs, `message` is made for people.
    """

    path: str
    reason: str
    message: str


class OrchestratorError(Exception):
    """A call failed.

    `reason` is stable and upper case, the finest thing to tell failures by: `JOURNEY_NOT_FOUND`. Where no server has
    answered it is that of `code`: `UNAVAILABLE`, `DEADLINE_EXCEEDED`. `metadata` holds what the message speaks of.
    `retry_after` says when the same call may succeed; None: waiting alone does not help.

    `request_id` is what the request was sent under; empty if it changes nothing. A call that got no answer in time
    (`DEADLINE_EXCEEDED`, `UNAVAILABLE`) may have taken effect all the same: sent again with this `request_id` it takes
    effect once, and returns what it would have returned.
    """

    def __init__(
        self,
        *,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        metadata: Mapping[str, str] = MappingProxyType({}),
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata)
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.request_id = request_id


def error_of(failed: grpc.aio.AioRpcError, request_id: str) -> OrchestratorError:
    """The error behind a failed call."""
    info, violations, retry_after = ErrorInfo(), [], None
    for detail in _status(failed).details:
        bad_request, preconditions, retry = BadRequest(), PreconditionFailure(), RetryInfo()
        if detail.Unpack(bad_request):
            violations += [Violation(v.field, v.reason, v.description) for v in bad_request.field_violations]
        elif detail.Unpack(preconditions):
            violations += [Violation(v.subject, v.type, v.description) for v in preconditions.violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
        else:
            detail.Unpack(info)
    return OrchestratorError(
        code=failed.code(),
        reason=info.reason or failed.code().name,
        message=failed.details() or "",
        metadata=info.metadata,
        violations=violations,
        retry_after=retry_after,
        request_id=request_id,
    )


def _status(failed: grpc.aio.AioRpcError) -> Status:
    """What the server said beside code and message; empty when it said nothing, or something else did."""
    for name, value in failed.trailing_metadata() or ():
        if name == _STATUS_TRAILER and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()
