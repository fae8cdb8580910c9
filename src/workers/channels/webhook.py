"""The channel `webhook`: the message as JSON, POSTed to the URL in the communication's settings, signed.

What a receiver gets, and what its answers mean, is in docs/channels.md.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx
import orjson

from orchestrator.domain import channels
from workers.channels.channel import Accepted, ChannelUnavailable, Message, OnAmbiguity, Refused
from workers.channels.egress import (
    Egress,
    Forbidden,
    GuardedNetwork,
    Resolver,
    Unreached,
    resolve,
    unanswered_by_name,
)
from workers.channels.signature import SigningSecrets

MAX_BODY_BYTES = 20 * 1024
MAX_ANSWER_BYTES = 64 * 1024
MAX_PROVIDER_ID_LENGTH = 256
#: What a receiver may make us wait, at most.
LONGEST_PAUSE = timedelta(hours=1)

# Seconds: to connect, until the answer's first line, and then for the rest of it.
_CONNECT = 5.0
_ANSWER = 15.0
_REST = 2.0
_SECRET_PAUSE = timedelta(minutes=1)

# What a test has none of.
_OF_EXECUTIONS = frozenset({"journeyId", "journeyVersion", "executionId", "stepId"})

#: Answers that mean "not now"; the receiver has not taken the message.
LATER = {408: "receiver_timeout", 425: "too_early", 429: "throttled"}


def open_connections(egress: Egress, resolver: Resolver = resolve) -> httpcore.AsyncConnectionPool:
    """Connections to wherever these rules allow, and to nowhere else. Follows no redirect."""
    return httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(),
        max_connections=256,
        keepalive_expiry=4.0,
        network_backend=GuardedNetwork(egress, resolver),
    )


class WebhookChannel:
    """Posts messages to their receivers.

    Refuses with `url_forbidden`, `address_forbidden`, `settings_invalid`, `message_too_large`, `redirected` (3xx),
    `gone` (410) and `rejected` (other 4xx). A receiver that has not answered, or with 5xx, may have taken the message.
    """

    name = channels.WEBHOOK
    #: For this long, at least, a receiver has to remember the ids of what it has taken.
    key_life = timedelta(days=7)
    on_ambiguity = OnAmbiguity.AT_LEAST_ONCE
    timeout = timedelta(seconds=_ANSWER + _REST)
    html = False

    def __init__(self, secrets: SigningSecrets, egress: Egress, *, resolver: Resolver = resolve) -> None:
        self._secrets = secrets
        self._egress = egress
        self._connections = open_connections(egress, resolver)

    def provider_of(self, message: Message) -> str:
        return host_of(message.settings["url"])

    async def send(self, message: Message) -> Accepted | Refused:
        url = message.settings["url"]
        try:
            self._egress.check_url(url)
        except Forbidden as forbidden:
            return Refused(reason=forbidden.reason, asked=False)
        body = body_of(message)
        if len(body) > MAX_BODY_BYTES:
            return Refused(reason="message_too_large", asked=False)
        if not self._secrets:
            raise ChannelUnavailable("signing_secret_missing", in_doubt=False, retry_after=_SECRET_PAUSE)
        try:
            with unanswered_by_name():
                return await self._post(url, self._headers(url, message, body), body)
        except Forbidden as forbidden:
            return Refused(reason=forbidden.reason, asked=False)
        except Unreached as unreached:
            raise ChannelUnavailable(unreached.reason, in_doubt=unreached.in_doubt, unreached=True) from unreached
        except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
            return Refused(reason="settings_invalid", asked=False)

    async def close(self) -> None:
        await self._connections.aclose()

    def _headers(self, url: str, message: Message, body: bytes) -> dict[str, str]:
        ours = {
            "host": urlsplit(url).netloc,
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "orchestrator",
            "idempotency-key": message.idempotency_key,
            **self._secrets.headers(message.idempotency_key, int(time.time()), body),
        }
        theirs = {name.lower(): value for name, value in message.settings.get("headers", {}).items()}
        return theirs | ours

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Accepted | Refused:
        patience = {"timeout": {"connect": _CONNECT, "pool": _CONNECT, "write": _ANSWER, "read": _ANSWER}}
        async with asyncio.timeout(_ANSWER) as deadline:
            async with self._connections.stream(
                "POST", url, headers=list(headers.items()), content=body, extensions=patience
            ) as response:
                if 200 <= response.status < 300:
                    # It is taken, whatever becomes of the rest of the answer.
                    deadline.reschedule(None)
                    return Accepted(provider_id=await _provider_id(response))
                return _refusal(response)


def host_of(url: str) -> str:
    """Host and port; empty where there is none to be called."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


def body_of(message: Message) -> bytes:
    """The same message has the same bytes. A repeat under its key may be another: templates read attributes anew."""
    data: dict[str, Any] = {
        "messageId": message.idempotency_key,
        "subjectId": message.subject_id,
        "communicationId": message.communication_id,
        "contentRevision": message.content_revision,
        "journeyId": message.journey_id,
        "journeyVersion": message.version,
        "executionId": str(message.execution_id),
        "stepId": message.step_id,
        "subject": message.subject,
        "body": message.body,
    }
    if message.is_test:
        data = {name: value for name, value in data.items() if name not in _OF_EXECUTIONS} | {"test": True}
    return orjson.dumps({"type": "journey.message", "data": data})


def _refusal(response: httpcore.Response) -> Refused:
    """What an answer other than 2xx means. Raises ChannelUnavailable where it does not mean "never"."""
    status = response.status
    if status in LATER or status >= 500:
        raise ChannelUnavailable(
            LATER.get(status, "receiver_failed"),
            in_doubt=status not in LATER,
            retry_after=retry_after_of(response),
            throttled=status == 429,
        )
    if status == 410:
        return Refused(reason="gone")
    return Refused(reason="redirected" if status < 400 else "rejected")


def retry_after_of(response: httpcore.Response) -> timedelta | None:
    """The pause asked for, in seconds or as a date, up to LONGEST_PAUSE; None when there is none that can be read."""
    text = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"").decode("latin-1")
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), LONGEST_PAUSE)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max(until - datetime.now(UTC), timedelta()), LONGEST_PAUSE)


async def _provider_id(response: httpcore.Response) -> str | None:
    """The member `id` of the answer, if the answer is a small JSON object that has one."""
    answer = bytearray()
    try:
        async with asyncio.timeout(_REST):
            async for chunk in response.aiter_stream():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    return None
        document = orjson.loads(answer)
    except (TimeoutError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ValueError):
        return None
    found = document.get("id") if isinstance(document, dict) else None
    if isinstance(found, str) and found.isprintable() and 0 < len(found) <= MAX_PROVIDER_ID_LENGTH:
        return found
    return None
