"""Records spans with OpenTelemetry's SDK, and sends them in batches from a thread of its own.

What is not set here the SDK reads from its own variables: OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS and its kind, OTEL_BSP_*.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator.traces import Kind

#: Seconds that a process that stops waits for a receiver that is away.
PATIENCE = 2.0

#: Of a `traceparent`. A longer one is none of this version, and not worth a line in the log.
_MAX_LENGTH = 512

_KINDS: Mapping[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}

_FORM = TraceContextTextMapPropagator()


@contextmanager
def opened(endpoint: str, *, over_http: bool, service: str) -> Iterator[OtlpRecorder]:
    """A recorder whose spans go to this receiver; at the end of the block, what has not gone is sent or given up."""
    exporter = _exporter(endpoint, over_http=over_http)
    processor = BatchSpanProcessor(exporter)
    try:
        yield OtlpRecorder(processor, _resource(service))
    finally:
        # An exporter that is shut down gives up at once whatever it is trying to send.
        impatient = threading.Timer(PATIENCE, exporter.shutdown)
        impatient.daemon = True
        impatient.start()
        end: Callable[[], object] = processor.shutdown
        end()
        impatient.cancel()


def _exporter(endpoint: str, *, over_http: bool) -> SpanExporter:
    # Each brings its own half of a network along.
    if over_http:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        return HttpExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    return GrpcExporter(endpoint=endpoint)


def _resource(service: str) -> Resource:
    own = {SERVICE_NAME: service, SERVICE_VERSION: version("orchestrator")}
    # Whatever an operator says of it goes before.
    return Resource(own).merge(Resource.create()) if _is_named() else Resource.create(own)


def _is_named() -> bool:
    given = os.environ
    return bool(given.get("OTEL_SERVICE_NAME")) or f"{SERVICE_NAME}=" in given.get("OTEL_RESOURCE_ATTRIBUTES", "")


class OtlpRecorder:
    """`orchestrator.traces.Recorder`."""

    def __init__(self, processor: BatchSpanProcessor, resource: Resource) -> None:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("orchestrator")
        # What it records was chosen before: nobody is asked whether to.
        self._drawn: ContextVar[tuple[int, int]] = ContextVar("drawn")
        telling = TracerProvider(
            resource=resource, shutdown_on_exit=False, sampler=ALWAYS_ON, id_generator=_Drawn(self._drawn)
        )
        telling.add_span_processor(processor)
        self._teller = telling.get_tracer("orchestrator")

    def begin(self, name: str, kind: Kind, *, parent: str | None, since: int | None = None) -> _Begun | None:
        span = self._tracer.start_span(name, _context_of(parent), _KINDS[kind], start_time=since)
        return _Begun(span) if span.is_recording() else None

    def tell(
        self,
        name: str,
        *,
        trace_id: int,
        span_id: int,
        parent: str | None,
        link: str | None,
        since: int,
        until: int,
        error: str | None,
        attributes: Mapping[str, str | int],
    ) -> None:
        token = self._drawn.set((trace_id, span_id))
        try:
            links = [Link(get_current_span(_context_of(link)).get_span_context())] if link is not None else []
            span = self._teller.start_span(name, _context_of(parent), links=links, start_time=since)
        finally:
            self._drawn.reset(token)
        begun = _Begun(span)
        begun.note(attributes)
        begun.end(error=error, at=until)


class _Begun:
    """`orchestrator.traces.Recorded`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, attributes: Mapping[str, str | int]) -> None:
        self._span.set_attributes(attributes)

    def end(self, *, error: str | None, at: int | None) -> None:
        if error is not None:
            # Its type alone: what it says, and its trace, may hold values.
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(at)


class _Drawn(IdGenerator):
    """Gives a span the numbers that were drawn for it."""

    def __init__(self, drawn: ContextVar[tuple[int, int]]) -> None:
        self._drawn = drawn

    def generate_trace_id(self) -> int:
        return self._drawn.get()[0]

    def generate_span_id(self) -> int:
        return self._drawn.get()[1]


def _context_of(traceparent: str | None) -> Context:
    """Empty for what is no `traceparent`: who follows it begins a trace of his own."""
    if traceparent is None or len(traceparent) > _MAX_LENGTH:
        return Context()
    return _FORM.extract({"traceparent": traceparent}, Context())
