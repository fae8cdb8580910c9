"""Calls of webhook steps over HTTP: one request goes out, an answer, a refusal or "ask me later" comes back.

They go where messages of the channel `webhook` may go, and are signed as these are, where there are secrets for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from urllib.parse import unquote, urlsplit

import httpcore

from orchestrator.domain.webhook_answer import MAX_ANSWER_BYTES
from workers.channels.egress import Egress, Forbidden, Resolver, Unreached, resolve, unanswered_by_name
from workers.channels.signature import SigningSecrets
from workers.channels.webhook import LATER, MAX_BODY_BYTES, open_connections, retry_after_of

#: Characters of a URL, filled in.
MAX_URL = 8 * 1024

_CONNECT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """A request, filled in. `body` is JSON, None: there is none."""

    idempotency_key: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """2xx. `body` is the answer's, and where that is longer than may be kept, at least one byte too long."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTaken:
    """It will never be taken. `reason` is one of few lower_snake words; without a `status` nobody was asked."""

    reason: str
    status: int | None = None


class NotNow(Exception):
    """Try again, not before `retry_after` if that is set. `in_doubt`: it may have been taken all the same. `unreached`:
    nobody answered at all.
    """

    def __init__(
        self,
        reason: str,
        *,
        in_doubt: bool,
        status: int | None = None,
        retry_after: timedelta | None = None,
        unreached: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.in_doubt = in_doubt
        self.status = status
        self.retry_after = retry_after
        self.unreached = unreached


class StepCalls:
    """Makes calls, many at once. To be used as an async context manager, or to be closed."""

    def __init__(
        self, secrets: SigningSecrets | None = None, egress: Egress | None = None, *, resolver: Resolver = resolve
    ) -> None:
        """Without `secrets` nothing is signed; without `egress` its usual rules hold."""
        self._secrets = secrets or SigningSecrets(())
        self._egress = egress or Egress()
        self._connections = open_connections(self._egress, resolver)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def make(self, call: StepCall) -> Taken | NotTaken:
        """Refusals: `url_forbidden`, `address_forbidden`, `body_too_large`, `redirected` (3xx), `gone` (410), and
        `rejected` (other 4xx). Raises NotNow.
        """
        if call.body is not None and len(call.body) > MAX_BODY_BYTES:
            return NotTaken(reason="body_too_large")
        try:
            self._egress.check_url(call.url)
            _check_path(call.url)
            with unanswered_by_name():
                async with asyncio.timeout(call.timeout.total_seconds()):
                    return await self._make(call)
        except Forbidden as forbidden:
            return NotTaken(reason=forbidden.reason)
        except Unreached as unreached:
            raise NotNow(unreached.reason, in_doubt=unreached.in_doubt, unreached=True) from unreached
        except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
            return NotTaken(reason="url_forbidden")

    async def close(self) -> None:
        await self._connections.aclose()

    async def _make(self, call: StepCall) -> Taken | NotTaken:
        seconds = call.timeout.total_seconds()
        patience = {
            "connect": min(_CONNECT, seconds),
            "pool": min(_CONNECT, seconds),
            "write": seconds,
            "read": seconds,
        }
        async with self._connections.stream(
            call.method.upper(),
            call.url,
            headers=list(self._headers(call).items()),
            content=call.body,
            extensions={"timeout": patience},
        ) as response:
            status = response.status
            if 200 <= status < 300:
                return Taken(status=status, body=await _beginning(response))
            if status in LATER or status >= 500:
                reason = LATER.get(status, "receiver_failed")
                in_doubt = status not in LATER
                raise NotNow(reason, in_doubt=in_doubt, status=status, retry_after=retry_after_of(response))
            if status == 410:
                return NotTaken(reason="gone", status=status)
            return NotTaken(reason="redirected" if status < 400 else "rejected", status=status)

    def _headers(self, call: StepCall) -> dict[str, str]:
        ours = {
            "host": urlsplit(call.url).netloc,
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "orchestrator",
            "idempotency-key": call.idempotency_key,
        }
        if call.body is not None:
            ours["content-type"] = "application/json"
        if self._secrets:
            ours |= self._secrets.headers(call.idempotency_key, int(time.time()), call.body or b"")
        return {name.lower(): value for name, value in call.headers.items()} | ours


def _check_path(url: str) -> None:
    """What a subject brings into a path must not lead elsewhere: servers know `..`, however it is written. Raises
    Forbidden.
    """
    if len(url) > MAX_URL:
        raise Forbidden("url_forbidden")
    segments = unquote(urlsplit(url).path).replace("\\", "/").split("/")
    if {".", ".."}.intersection(segment.partition(";")[0] for segment in segments):
        raise Forbidden("url_forbidden")


async def _beginning(response: httpcore.Response) -> bytes:
    """As much of the body as may be kept, and a little of what is too much."""
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body[: MAX_ANSWER_BYTES + 1])
