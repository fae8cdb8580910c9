"""Traces leave the process, for the receiver that OTEL_EXPORTER_OTLP_ENDPOINT names; off without one.

What needs OpenTelemetry's SDK, which comes with the extra `traces`, is in `otlp_recorder`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from orchestrator import traces


class PackagesMissing(Exception):
    """One sentence for an operator."""


@contextmanager
def recording(endpoint: str | None, protocol: Literal["grpc", "http/protobuf"], *, service: str) -> Iterator[None]:
    """Have the spans of this process recorded and sent as long as the block lasts; without an endpoint, do nothing.

    `service` is what the process is called, unless OTEL_SERVICE_NAME says otherwise. A receiver that is away costs
    nothing but the spans; at the end of the block it is waited for, two seconds at most. Raises PackagesMissing.
    """
    if endpoint is None:
        yield
        return
    try:
        from orchestrator import otlp_recorder
    except ModuleNotFoundError as missing:
        raise PackagesMissing(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and traces need packages that are not here ({missing.name}): install "
            "orchestrator[traces], or unset it."
        ) from None
    over_http = protocol == "http/protobuf"
    with otlp_recorder.opened(endpoint, over_http=over_http, service=service) as recorder, traces.recording(recorder):
        yield
