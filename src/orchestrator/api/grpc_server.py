"""gRPC: from the wire to the pipeline and back. Requests arrive as bytes: garbage is answered like any other fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from orchestrator.api.auth import key_of
from orchestrator.api.call_ids import call_id_of
from orchestrator.api.errors import Failure, MalformedRequest, to_fitting_status
from orchestrator.api.field_limits import MAX_BATCH_BYTES
from orchestrator.api.message_check import check_message
from orchestrator.api.methods import Method
from orchestrator.api.pipeline import Arrival, Pipeline, Read
from orchestrator.api.tls import TlsFiles, grpc_credentials

_OPTIONS: Sequence[tuple[str, int]] = (
    # A second server on the same port must fail, not take half of the connections.
    ("grpc.so_reuseport", 0),
    # What is a little too large is read and refused like any fault; what is far too large is not read at all.
    ("grpc.max_receive_message_length", 2 * MAX_BATCH_BYTES),
    ("grpc.max_send_message_length", -1),
    # Callers behind a balancer of connections come round to new servers.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.max_connection_idle_ms", 900_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Context = grpc.aio.ServicerContext[Any, Any]


class GrpcServer:
    """The gRPC listener. `start` binds it, `stop` lets running calls end."""

    def __init__(
        self,
        pipeline: Pipeline,
        methods: Mapping[str, Method],
        *,
        health_servicer: health.aio.HealthServicer,
        max_calls: int,
        with_reflection: bool,
    ) -> None:
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=max_calls)
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, self._server)
        if with_reflection:
            names = sorted({method.service for method in methods.values()})
            reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        # The last to be asked: it answers for what nobody knows.
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
        await self._server.stop(grace)


class _Calls(grpc.GenericRpcHandler):
    def __init__(self, pipeline: Pipeline, methods: Mapping[str, Method]) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            f"/{method.name}": grpc.unary_unary_rpc_method_handler(_serving(pipeline, method))
            for method in methods.values()
        }
        self._unknown: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_refuse_unknown)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method, self._unknown)


def _serving(pipeline: Pipeline, method: Method) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def serve(message: bytes, context: Context) -> bytes:
        headers: dict[str, Any] = dict(context.invocation_metadata() or ())
        call_id = call_id_of(headers)
        if "x-request-id" in headers:
            await context.send_initial_metadata((("x-request-id", call_id),))

        async def read() -> Read:
            try:
                request = method.request.FromString(message)
            except DecodeError:
                raise MalformedRequest(f"not a {method.request.DESCRIPTOR.full_name}") from None
            return Read(request, check_message(request))

        arrival = Arrival(
            method=method,
            transport="grpc",
            key=key_of(headers),
            call_id=call_id,
            time_left=context.time_remaining(),
            read=read,
        )
        answer = await pipeline.serve(arrival)
        if isinstance(answer, Failure):
            await _abort(context, answer, call_id)
        return answer  # type: ignore[return-value]

    return serve


async def _refuse_unknown(requests: Any, context: Context) -> None:
    failure = Failure(code=StatusCode.UNIMPLEMENTED, reason="METHOD_NOT_FOUND", message="no such method")
    await _abort(context, failure, "")


async def _abort(context: Context, failure: Failure, call_id: str) -> None:
    status: Status = to_fitting_status(failure, call_id)
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if failure.code is StatusCode.UNAVAILABLE and failure.retry_after is not None:
        trailers.append(("grpc-retry-pushback-ms", str(int(failure.retry_after.total_seconds() * 1000))))
    await context.abort(failure.code, status.message, tuple(trailers))
