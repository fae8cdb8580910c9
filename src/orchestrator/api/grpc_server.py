"""gRPC: from the wire to the pipeline and back. Requests arrive as bytes: garbage is answered like any other fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode

from orchestrator.api.auth import is_bearer, key_of
from orchestrator.api.call_ids import call_id_of
from orchestrator.api.client_certificates import names_of_call
from orchestrator.api.errors import Failure, MalformedRequest
from orchestrator.api.field_limits import MAX_BATCH_BYTES
from orchestrator.api.grpc_open_calls import OpenCalls
from orchestrator.api.grpc_wire import Context, abort, message_of
from orchestrator.api.health_service import HealthService
from orchestrator.api.message_check import check_message
from orchestrator.api.methods import Method
from orchestrator.api.peers import grpc_peer_of
from orchestrator.api.pipeline import TRACE_HEADER, Arrival, Pipeline, Read
from orchestrator.api.tls import TlsFiles, grpc_credentials

_OPTIONS: Sequence[tuple[str, int]] = (
    # A second server on the same port must fail, not take half of the connections.
    ("grpc.so_reuseport", 0),
    # What is a little too large is read and refused like any fault; what is far too large is not read at all.
    ("grpc.max_receive_message_length", 2 * MAX_BATCH_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 16 * 1024),
    # More wait at the caller. Not fewer: those that are begun before he has heard of it fail, and nobody says why.
    ("grpc.max_concurrent_streams", 1024),
    # Whoever connects and says nothing.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Callers behind a balancer of connections come round to new servers.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.max_connection_idle_ms", 900_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

#: Beyond our own limits, which tell callers more, gRPC itself turns calls away: room for all who wait for news of our
#: health or for a key to be looked up, and for more than that.
_SPARE_CALLS = 10_000


class GrpcServer:
    """The gRPC listener. `start` binds it, `stop` lets running calls end."""

    def __init__(
        self,
        pipeline: Pipeline,
        methods: Mapping[str, Method],
        *,
        health_servicer: HealthService,
        max_calls: int,
        with_reflection: bool,
    ) -> None:
        self._health = health_servicer
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=max_calls + _SPARE_CALLS)
        described = sorted({method.service for method in methods.values()}) if with_reflection else ()
        # The calls are the last to be asked: they answer for what nobody knows.
        self._server.add_generic_rpc_handlers((OpenCalls(health_servicer, described=described),))
        self._server.add_generic_rpc_handlers((_Calls(pipeline, methods),))

    async def start(self, host: str, port: int, tls: TlsFiles | None) -> int:
        """Listen; returns the port. Raises OSError when the address is taken or TLS files cannot be read."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, grpc_credentials(tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error
        await self._server.start()
        return bound

    async def stop(self, grace: float) -> None:
        """Refuse new calls at once, give those under way `grace` seconds, cancel the rest."""
        self._health.end()
        await self._server.stop(grace)


class _Calls(grpc.GenericRpcHandler):
    def __init__(self, pipeline: Pipeline, methods: Mapping[str, Method]) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            f"/{method.name}": grpc.stream_unary_rpc_method_handler(_serving(pipeline, method))
            for method in methods.values()
        }
        self._unknown: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_refuse_unknown)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method, self._unknown)


def _serving(pipeline: Pipeline, method: Method) -> Callable[[object, Context], Awaitable[bytes]]:
    def request_of(message: bytes) -> Read:
        try:
            request = method.request.FromString(message)
        except DecodeError:
            raise MalformedRequest(f"not a {method.request.DESCRIPTOR.full_name}") from None
        return Read(request, check_message(request))

    async def serve(requests: object, context: Context) -> bytes:
        headers: dict[str, Any] = dict(context.invocation_metadata() or ())
        call_id = call_id_of(headers)
        if "x-request-id" in headers:
            await context.send_initial_metadata((("x-request-id", call_id),))

        async def read() -> Read:
            return await pipeline.made(request_of, await message_of(context))

        arrival = Arrival(
            method=method,
            transport="grpc",
            peer=grpc_peer_of(context.peer()),
            key=key_of(headers),
            as_bearer=is_bearer(headers),
            call_id=call_id,
            time_left=context.time_remaining(),
            read=read,
            traceparent=headers.get(TRACE_HEADER),
            client_names=partial(names_of_call, context),
        )
        answer = await pipeline.serve(arrival)
        if isinstance(answer, Failure):
            await abort(context, answer, call_id)
        return answer

    return serve


async def _refuse_unknown(requests: object, context: Context) -> None:
    failure = Failure(code=StatusCode.UNIMPLEMENTED, reason="METHOD_NOT_FOUND", message="no such method")
    await abort(context, failure, "")
