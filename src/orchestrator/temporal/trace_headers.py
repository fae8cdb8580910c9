"""Traces in Temporal's headers: who starts or pokes an execution says what for, and so do workflows to activities.

The header is that of the SDK's own interceptor. Codecs leave headers alone: this one holds numbers drawn by lot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor, OutboundInterceptor, SignalWorkflowInput, StartWorkflowInput, WorkflowHandle
from temporalio.converter import PayloadConverter

from orchestrator import traces

_HEADER = "_tracer-data"
_MEMBER = "traceparent"
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def with_trace(headers: Mapping[str, Payload], trace: str | None) -> Mapping[str, Payload]:
    """These headers, and the trace that is to be carried."""
    if trace is None:
        return headers
    return {**headers, _HEADER: PayloadConverter.default.to_payload({_MEMBER: trace})}


def trace_of(headers: Mapping[str, Payload]) -> str | None:
    """The trace that was carried here; None also for what is not of this form."""
    payload = headers.get(_HEADER)
    if payload is None:
        return None
    try:
        carrier = PayloadConverter.default.from_payload(payload)
    except (KeyError, RuntimeError, ValueError):
        return None
    trace = carrier.get(_MEMBER) if isinstance(carrier, dict) else None
    return trace if isinstance(trace, str) and _TRACEPARENT.fullmatch(trace) else None


class TraceCarrier(Interceptor):
    """Has what a client tells Temporal carry what is being done."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Carrying(next)


class _Carrying(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        input.headers = with_trace(input.headers, traces.carried())
        return await super().start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        input.headers = with_trace(input.headers, traces.carried())
        await super().signal_workflow(input)
