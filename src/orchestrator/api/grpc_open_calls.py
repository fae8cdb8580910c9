"""What gRPC answers without a key: health, and where it is switched on the contract.

Such calls may last for as long as the caller likes, so each kind has places of its own, and so has each address: they
take nothing from those who show a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from orchestrator.api.errors import DeadlineExceeded, MalformedRequest, failure_of
from orchestrator.api.grpc_wire import Context, abort, message_of
from orchestrator.api.health_service import HealthService
from orchestrator.api.limits import SharedPlaces
from orchestrator.api.peers import grpc_peer_of
from orchestrator.domain.refusals import NotFound, Refusal

HEALTH = "grpc.health.v1.Health"

#: Calls of one kind at once: of all, and from one address.
ALTOGETHER = 1_000
EACH = 100
#: Seconds in which the message of a call must come.
_PATIENCE = 10.0

_Request = TypeVar("_Request", bound=Message)


class OpenCalls(grpc.GenericRpcHandler):
    """Serves Check, List and Watch; with `described` services, reflection as well."""

    def __init__(self, health: HealthService, *, described: Sequence[str] = ()) -> None:
        self._health = health
        self._questions = SharedPlaces(altogether=ALTOGETHER, each=EACH)
        self._watches = SharedPlaces(altogether=ALTOGETHER, each=EACH)
        self._readers = SharedPlaces(altogether=ALTOGETHER, each=EACH)
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            f"/{HEALTH}/Check": self._answering(HealthCheckRequest, self._check),
            f"/{HEALTH}/List": self._answering(HealthListRequest, self._list),
            f"/{HEALTH}/Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }
        if described:
            self._contract = reflection.aio.ReflectionServicer([*described, HEALTH, reflection.SERVICE_NAME])
            self._handlers[f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"] = grpc.stream_stream_rpc_method_handler(
                self._describe,
                request_deserializer=ServerReflectionRequest.FromString,
                response_serializer=ServerReflectionResponse.SerializeToString,
            )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)

    def _answering(
        self, kind: type[_Request], answer: Callable[[_Request], Message]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def serve(requests: object, context: Context) -> bytes:
            async def call() -> bytes:
                with self._questions.place(_peer(context)):
                    return answer(await _request(context, kind)).SerializeToString()

            return await _or_abort(context, call())

        return grpc.stream_unary_rpc_method_handler(serve)

    def _check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        status = self._health.statuses.get(request.service)
        if status is None:
            raise NotFound("METHOD_NOT_FOUND", "no such service")
        return HealthCheckResponse(status=status)

    def _list(self, request: HealthListRequest) -> HealthListResponse:
        statuses = self._health.statuses.items()
        return HealthListResponse(statuses={name: HealthCheckResponse(status=status) for name, status in statuses})

    async def _watch(self, requests: object, context: Context) -> None:
        async def call() -> None:
            with self._watches.place(_peer(context)):
                request = await _request(context, HealthCheckRequest)
                async for status in self._health.watch(request.service):
                    await context.write(HealthCheckResponse(status=status).SerializeToString())

        await _or_abort(context, call())

    async def _describe(self, requests: AsyncIterator[ServerReflectionRequest], context: Context) -> None:
        async def call() -> None:
            with self._readers.place(_peer(context)):
                async for answer in self._contract.ServerReflectionInfo(requests, context):
                    await context.write(answer)

        await _or_abort(context, call())


_Answer = TypeVar("_Answer")


async def _or_abort(context: Context, call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except (Refusal, DeadlineExceeded) as error:
        await abort(context, failure_of(error, call_id="", method=""), "")


async def _request(context: Context, kind: type[_Request]) -> _Request:
    try:
        async with asyncio.timeout(_PATIENCE):
            message = await message_of(context)
    except TimeoutError:
        raise DeadlineExceeded from None
    try:
        return kind.FromString(message)
    except DecodeError:
        raise MalformedRequest(f"not a {kind.DESCRIPTOR.full_name}") from None


def _peer(context: Context) -> str:
    return grpc_peer_of(context.peer())
