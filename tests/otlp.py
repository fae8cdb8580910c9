"""A receiver of traces on a real socket, by gRPC or HTTP, which keeps what it got."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.eventually import eventually

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"

#: Spans leave soon after they have ended.
PROMPTLY = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span as it came, its numbers in hexadecimal digits. `links` are (trace, span)."""

    name: str
    service: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, str | int]
    failed: bool
    since: int
    until: int


@dataclass(slots=True)
class Received:
    """`messages` are the requests as they came."""

    endpoint: str
    messages: list[bytes] = field(default_factory=list)

    def spans(self, trace_id: str | None = None) -> list[Span]:
        """In the order of their beginnings."""
        found = [span for message in self.messages for span in _spans_in(ExportTraceServiceRequest.FromString(message))]
        return sorted(
            (span for span in found if trace_id in (None, span.trace_id)), key=lambda span: (span.since, -span.until)
        )

    async def until(self, there: Callable[[Sequence[Span]], bool], trace_id: str | None = None) -> list[Span]:
        """Wait until these have come; they are those of the trace, or all."""

        async def have_come() -> bool:
            return there(self.spans(trace_id))

        await eventually(have_come, within=30)
        return self.spans(trace_id)


def ancestry(span: Span, spans: Sequence[Span]) -> list[str]:
    """The names from this span up to the first of its trace that has come."""
    of_ids = {one.span_id: one for one in spans if one.trace_id == span.trace_id}
    names = [span.name]
    while (parent := of_ids.get(span.parent_id)) is not None:
        span = parent
        names.append(span.name)
    return names


def named(name: str, spans: Sequence[Span]) -> list[Span]:
    return [span for span in spans if span.name == name]


@contextmanager
def receiving_traces(protocol: Literal["grpc", "http/protobuf"] = "grpc") -> Iterator[Received]:
    """A receiver until the end of the block, in threads of its own: who stops waits for it without giving way."""
    received = Received("")
    with _by_grpc(received) if protocol == "grpc" else _by_http(received):
        yield received


@contextmanager
def _by_grpc(received: Received) -> Iterator[None]:
    def export(message: bytes, context: object) -> bytes:
        received.messages.append(message)
        return ExportTraceServiceResponse().SerializeToString()

    with ThreadPoolExecutor(max_workers=1) as threads:
        server = grpc.server(threads)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),))
        received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield
        finally:
            server.stop(None).wait()


@contextmanager
def _by_http(received: Received) -> Iterator[None]:
    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.messages.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        received.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _spans_in(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for of_resource in request.resource_spans:
        service = str(_attributes(of_resource.resource.attributes)["service.name"])
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    name=span.name,
                    service=service,
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    attributes=_attributes(span.attributes),
                    failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    since=span.start_time_unix_nano,
                    until=span.end_time_unix_nano,
                )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, str | int]:
    return {pair.key: pair.value.int_value or pair.value.string_value for pair in pairs}
