"""The channel: how it is secured, what it does when the server is away, and what every call on it carries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from orchestrator.client.errors import error_of

#: UNAVAILABLE alone is tried again: whatever changes something carries a `request_id`, so that a repeat does no harm.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "loadBalancingConfig": [{"round_robin": {}}],
}

_MEBIBYTE = 2**20

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # What does not fit is not sent again. A full batch of events does.
    ("grpc.per_rpc_retry_buffer_size", 8 * _MEBIBYTE),
    ("grpc.max_receive_message_length", 64 * _MEBIBYTE),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files in PEM form. `ca` is who may vouch for the server; None: the usual authorities.

    `certificate` and `key` are shown to servers that ask for them. `server_name` is the name in the server's
    certificate where that is not the one it is reached by.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""


def open_channel(target: str, api_key: str, *, tls: Tls | None, timeout: float) -> grpc.aio.Channel:
    """A channel on which calls are authenticated, end in time and raise OrchestratorError. Raises OSError (files)."""
    interceptors = [_Calls(api_key, timeout)]
    if tls is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS, interceptors=interceptors)
    credentials = grpc.ssl_channel_credentials(_read(tls.ca), _read(tls.key), _read(tls.certificate))
    named = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
    return grpc.aio.secure_channel(target, credentials, options=(*_OPTIONS, *named), interceptors=interceptors)


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None


class _Calls(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives each call its key, its deadline and its request id, and its failure a meaning."""

    def __init__(self, api_key: str, timeout: float) -> None:
        self._authorization = ("authorization", f"Bearer {api_key}")
        self._timeout = timeout

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[grpc.aio.UnaryUnaryCall[Any, Any]]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        details = grpc.aio.ClientCallDetails(
            method=client_call_details.method,
            timeout=self._timeout if client_call_details.timeout is None else client_call_details.timeout,
            metadata=grpc.aio.Metadata(*(client_call_details.metadata or ()), self._authorization),
            credentials=client_call_details.credentials,
            wait_for_ready=client_call_details.wait_for_ready,
        )
        call = await continuation(details, _identified(request))
        try:
            await call
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed) from None
        return call


def _identified(request: Message) -> Message:
    """The request under an id of its own, if it can have one and has none; the caller's own message stays as it is."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:  # type: ignore[attr-defined]
        return request
    identified = type(request)()
    identified.CopyFrom(request)
    identified.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    return identified
