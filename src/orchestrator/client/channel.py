"""The channel: how it is secured, what it does when the server is away, and what every call on it carries."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from orchestrator.client.errors import OrchestratorError, error_of

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # By itself a channel that failed waits up to two minutes before it tries again: longer than most calls have.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

#: Of calls that a server has told to come back, so many are made again at once, and then one for each ten that succeed:
#: a server with too much to do is not to be asked even more.
_COME_BACKS = 50
_EARNED = 0.1

#: Calls that one channel has under way. More wait here, in the order in which they came: at a server with much to do
#: they would be the ones that are told to come back.
_AT_ONCE = 32

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


#: A server that stops answers a call which has just come in with CANCELLED. One that is canceled here raises
#: CancelledError instead.
_NOBODY_THERE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class _Calls(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives each call its key, its deadline and its request id, repeats it while the server is away or has too much to
    do, and its failure a meaning.
    """

    def __init__(self, api_key: str, timeout: float) -> None:
        self._authorization = ("authorization", f"Bearer {api_key}")
        self._timeout = timeout
        self._come_backs = float(_COME_BACKS)
        self._places = asyncio.Semaphore(_AT_ONCE)

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
            try:
                async with self._place(deadline, identified):
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
                    await call
            except grpc.aio.AioRpcError as failed:
                error = error_of(failed, _request_id(identified))
                # Whatever changes something carries a request id, so that a repeat does no harm.
                # Jitter, lest all callers come back at once.
                left, wanted = deadline - clock(), pause * random.uniform(0.5, 1)
                if error.retry_after is not None:
                    wanted = max(wanted, error.retry_after.total_seconds() * random.uniform(1, 1.5))
                if wanted >= left or not self._may_repeat(error):
                    raise error from None
                await asyncio.sleep(wanted)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._come_backs = min(_COME_BACKS, self._come_backs + _EARNED)
                return call

    @asynccontextmanager
    async def _place(self, deadline: float, request: Message) -> AsyncIterator[None]:
        """Raises OrchestratorError when there is none in time."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError:
            raise OrchestratorError(
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
                reason=grpc.StatusCode.DEADLINE_EXCEEDED.name,
                message="the calls before this one took too long: it was not made",
                request_id=_request_id(request),
            ) from None
        try:
            yield
        finally:
            self._places.release()

    def _may_repeat(self, error: OrchestratorError) -> bool:
        """Whether nobody was there, or there was too much to do and not too much of that lately."""
        if error.code in _NOBODY_THERE:
            return True
        if error.code is not grpc.StatusCode.RESOURCE_EXHAUSTED or error.retry_after is None or self._come_backs < 1:
            return False
        self._come_backs -= 1
        return True


def _request_id(request: Message) -> str:
    found: str = getattr(request, "request_id", "")
    return found


def _identified(request: Message) -> Message:
    """The request under an id of its own, if it can have one and has none; the caller's own message stays as it is."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:  # type: ignore[attr-defined]
        return request
    identified = type(request)()
    identified.CopyFrom(request)
    identified.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
    return identified
