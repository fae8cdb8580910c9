"""Conversations with an SMTP server, over connections that are kept for a while.

Until the message itself goes over, nothing can have been taken, and all may be tried again. From then on only an answer
tells: a connection that ends without one leaves the message in doubt.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from workers.channels.channel import Accepted, ChannelUnavailable, Refused

# Seconds: for a place among the connections, to connect, for the envelope, and for the message and its answer.
_PLACE = 2.0
_CONNECT = 6.0
_ENVELOPE = 4.0
_ANSWER = 12.0
#: The longest conversation.
LONGEST = timedelta(seconds=_PLACE + _CONNECT + _ENVELOPE + _ANSWER)

# Seconds that a connection waits for more, and messages that it carries: servers end what is older or has carried many.
_IDLE = 20.0
_MESSAGES = 50

#: Before a server that has said "later" is asked again: sooner would be held against us.
_PAUSE = timedelta(minutes=1)
#: "Authenticate first": what is wrong is ours, not the message's.
_AUTHENTICATION_REQUIRED = 530
# How servers call what they have taken: "2.0.0 Ok: queued as 4Zx1Bc2", "Ok 0102018f-65b7", "OK id=1rX4-0001".
_GIVEN_ID = re.compile(r"(?:queued as |\bid=|\bok:? )<?([\w.+@-]{6,200})>?\s*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """Where mail goes. `tls`: from the first byte, by STARTTLS, which then is required, or none."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None

    @classmethod
    def parse(cls, url: str, *, plain: bool = False, ca: Path | None = None) -> Self:
        """`smtps://user:password@host:465` or `smtp://user:password@host:587`; `plain`: without STARTTLS.

        Raises ValueError with half a sentence that does not quote the password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("it is no URL") from None
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or port == 0:
            raise ValueError("it has to be smtp://user:password@host:587 or smtps://user:password@host:465")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("nothing may follow the host and the port; write % and / in a password as %25 and %2F")
        if (parts.username is None) != (parts.password is None):
            raise ValueError("user and password go together")
        implicit = parts.scheme == "smtps"
        if plain and not implicit and parts.password is not None:
            raise ValueError("a password is not sent without TLS")
        return cls(
            host=parts.hostname,
            port=port or (465 if implicit else 587),
            tls="implicit" if implicit else "none" if plain else "starttls",
            username=unquote(parts.username) if parts.username is not None else None,
            password=unquote(parts.password) if parts.password is not None else None,
            ca=ca,
        )


@dataclass(slots=True)
class _Line:
    """One connection."""

    client: SMTP
    messages: int = 0
    idle_since: float = 0.0

    @property
    def may_live(self) -> bool:
        recent = time.monotonic() - self.idle_since < _IDLE
        return self.client.is_connected and self.messages < _MESSAGES and recent


class SmtpConnections:
    """Hands messages to one server, over at most `most` connections at once."""

    def __init__(self, server: SmtpServer, *, most: int = 8) -> None:
        """Raises OSError when the file of `server.ca` cannot be read."""
        self._server = server
        self._places = asyncio.Semaphore(most)
        self._idle: list[_Line] = []
        self._tls = ssl.create_default_context(cafile=server.ca) if server.tls != "none" else None

    async def hand_over(self, sender: str, recipient: str, content: bytes) -> Accepted | Refused:
        """One message to one recipient. Raises ChannelUnavailable. May be cancelled.

        Refused with `sender_rejected`, `recipient_rejected` or `message_rejected`.
        """
        async with self._line() as line:
            return await _address(line.client, sender, recipient) or await _tell(line.client, content)

    async def close(self) -> None:
        """End all connections. None is in use."""
        while self._idle:
            client = self._idle.pop().client
            with suppress(SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(_PLACE):
                    await client.quit()
            client.close()

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[_Line]:
        """A connection for one message. It is kept for more, unless the block fails."""
        try:
            async with asyncio.timeout(_PLACE):
                await self._places.acquire()
        except TimeoutError:
            raise ChannelUnavailable("connections_busy", in_doubt=False) from None
        try:
            line = await self._ready()
            try:
                yield line
            except BaseException:
                line.client.close()
                raise
            line.messages += 1
            line.idle_since = time.monotonic()
            self._idle.append(line)
        finally:
            self._places.release()

    async def _ready(self) -> _Line:
        try:
            async with asyncio.timeout(_CONNECT):
                return await self._idle_line() or _Line(await self._connected())
        except SMTPAuthenticationError:
            raise ChannelUnavailable("authentication_failed", in_doubt=False, retry_after=_PAUSE) from None
        except SMTPResponseException:
            raise ChannelUnavailable("server_unavailable", in_doubt=False, retry_after=_PAUSE) from None
        except (TimeoutError, SMTPTimeoutError, SMTPServerDisconnected):
            raise ChannelUnavailable("unreachable", in_doubt=False, unreached=True) from None
        except (SMTPException, OSError) as error:
            # What is left when the server was reached: it has no STARTTLS, or a certificate that is not to be trusted.
            is_tls = not isinstance(error, SMTPConnectError | OSError) or isinstance(error.__cause__, ssl.SSLError)
            reason = "tls_failed" if is_tls or isinstance(error, ssl.SSLError) else "unreachable"
            raise ChannelUnavailable(reason, in_doubt=False, unreached=reason == "unreachable") from None

    async def _idle_line(self) -> _Line | None:
        """A connection that was kept, and is still there: servers end them when they like."""
        while self._idle:
            line = self._idle.pop()
            if line.may_live:
                with suppress(SMTPException, OSError):
                    await line.client.rset()
                    return line
            line.client.close()
        return None

    async def _connected(self) -> SMTP:
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            timeout=_CONNECT,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=self._tls,
        )
        await client.connect()
        return client


async def _address(client: SMTP, sender: str, recipient: str) -> Refused | None:
    """Name both ends; None when the message may follow. Raises ChannelUnavailable, and nothing has been taken then."""
    party = "sender"
    try:
        async with asyncio.timeout(_ENVELOPE):
            await client.mail(sender)
            party = "recipient"
            await client.rcpt(recipient)
    except SMTPResponseException as error:
        return _refused(error.code, party)
    except (SMTPException, OSError, TimeoutError):
        raise ChannelUnavailable("connection_lost", in_doubt=False) from None
    return None


async def _tell(client: SMTP, content: bytes) -> Accepted | Refused:
    """The message itself. Raises ChannelUnavailable."""
    try:
        async with asyncio.timeout(_ANSWER):
            answer = await client.data(content, timeout=_ANSWER)
    except SMTPResponseException as error:
        return _refused(error.code, "message")
    except (SMTPException, OSError, TimeoutError):
        raise ChannelUnavailable("connection_lost", in_doubt=True) from None
    given = _GIVEN_ID.search(answer.message)
    return Accepted(provider_id=given[1] if given else None)


def _refused(code: int, what: str) -> Refused:
    """What an answer that is no "yes" means. Raises ChannelUnavailable where it does not mean "never"."""
    if code == _AUTHENTICATION_REQUIRED:
        raise ChannelUnavailable("authentication_required", in_doubt=False, retry_after=_PAUSE)
    if code < 500:
        raise ChannelUnavailable(f"{what}_deferred", in_doubt=False, retry_after=_PAUSE)
    return Refused(reason=f"{what}_rejected")
