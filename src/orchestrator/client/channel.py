"""The channel: how it is secured, what it does when the server is away, and what every call on it carries."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from orchestrator.client.errors import error_of

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # By itself a channel that failed waits up to two minutes before it tries again: longer than most calls have.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

#: Seconds between two tries: about the first, then twice as long each time, up to about the second.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


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
    """Gives each call its key, its deadline and its request id, repeats it while the server is away, and its failure a
    meaning.
    """

    def __init__(self, api_key: str, timeout: float) -> None:
        self._authorization = ("authorization", f"Bearer {api_key}")
        self._timeout = timeout

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[grpc.aio.UnaryUnaryCall[Any, Any]]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        given = client_call_details
        metadata = grpc.aio.Metadata(*(given.metadata or ()), self._authorization)
        identified = _identified(request)
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self._timeout if given.timeout is None else given.timeout)
        pause = _FIRST_PAUSE
        while True:
            call = await continuation(
                grpc.aio.ClientCallDetails(
                    method=given.method,
                    timeout=max(0.0, deadline - clock()),
                    metadata=metadata,
                    credentials=given.credentials,
                    wait_for_ready=given.wait_for_ready,
                ),
                identified,
            )
            try:
                await call
            except grpc.aio.AioRpcError as failed:
                error = error_of(failed, getattr(identified, "request_id", ""))
                # UNAVAILABLE alone: whatever changes something carries a request id, so that a repeat does no harm.
                # Jitter, lest all callers come back at once.
                left, wanted = deadline - clock(), pause * random.uniform(0.5, 1)
                if error.retry_after is not None:
                    wanted = max(wanted, error.retry_after.total_seconds())
                if error.code is not grpc.StatusCode.UNAVAILABLE or wanted >= left:
                    raise error from None
                await asyncio.sleep(wanted)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return call


def _identified(request: Message) -> Message:
    """The request under an id of its own, if it can have one and has none; the caller's own message stays as it is."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:  # type: ignore[attr-defined]
        return request
    identified = type(request)()
    identified.CopyFrom(request)
    identified.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    return identified
