"""One call of gRPC, as bytes: its message comes in when it is asked for, and its failure goes out with all details.

Handlers take streams although every call has one message. gRPC reads that of a unary call before it asks anybody, and
for as long as it takes: whoever sends none would hold a place without showing a key.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from orchestrator.api.errors import Failure, MalformedRequest, to_fitting_status

#: What clients may be configured to try again by themselves.
_AGAIN = (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED)

Context = grpc.aio.ServicerContext[Any, Any]


async def message_of(context: Context) -> bytes:
    """The call's message. Raises MalformedRequest when there is none."""
    message = await context.read()
    if message is grpc.aio.EOF:
        raise MalformedRequest("no message came")
    assert isinstance(message, bytes)
    return message


async def abort(context: Context, failure: Failure, call_id: str) -> NoReturn:
    """End the call."""
    status: Status = to_fitting_status(failure, call_id)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if failure.code in _AGAIN and failure.retry_after is not None:
        trailers.append(("grpc-retry-pushback-ms", str(int(failure.retry_after.total_seconds() * 1000))))
    await context.abort(failure.code, status.message, tuple(trailers))
