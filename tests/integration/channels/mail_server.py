"""An SMTP server in a process of its own. What it does is said by the address that mail goes to.

later@…     451 to the recipient          unknown@…  550 to the recipient
full@…      452 to the message            spam@…     554 to the message
lost@…      takes the message and hangs up without an answer
cut@…       hangs up when the recipient is named
anybody else is delivered to
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Taken:
    """One message as the server has it. `peer` tells connections apart."""

    sender: str
    recipients: list[str]
    content: bytes
    peer: str
    is_encrypted: bool

    @property
    def mail(self) -> EmailMessage:
        read = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(read, EmailMessage)
        return read


@dataclass(slots=True)
class MailServer:
    """The process, seen from here."""

    port: int
    process: Process
    _taken: list[Taken] = field(default_factory=list)

    async def taken(self, count: int) -> list[Taken]:
        """The messages so far, once there are so many."""
        async with asyncio.timeout(10):
            while len(self._taken) < count:
                assert self.process.stdout is not None
                told = json.loads(await self.process.stdout.readline())
                self._taken.append(Taken(**{**told, "content": base64.b64decode(told["content"])}))
        return self._taken

    async def restart_connections(self) -> None:
        """Have the server end every connection that it has."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"hang up\n")
        await self.process.stdin.drain()
        assert self.process.stdout is not None
        async with asyncio.timeout(10):
            assert await self.process.stdout.readline() == b'"hung up"\n'


@asynccontextmanager
async def mail_server(
    *, certificate: Path | None = None, key: Path | None = None, login: str = ""
) -> AsyncIterator[MailServer]:
    """With a certificate it offers STARTTLS and requires it; `login`, user:password, is required then, too."""
    arguments = [f"--certificate={certificate}", f"--key={key}"] if certificate else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, *arguments, f"--login={login}", stdin=PIPE, stdout=PIPE, limit=2**24
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            port = json.loads(await process.stdout.readline())
        yield MailServer(port, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


class _Handler:
    async def handle_RCPT(  # noqa: N802 - the library calls it so
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        match address.partition("@")[0]:
            case "later":
                return "451 4.7.1 Greylisted"
            case "unknown":
                return "550 5.1.1 No such user"
            case "cut":
                server.transport.abort()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - the library calls it so
        match envelope.rcpt_tos[0].partition("@")[0]:
            case "full":
                return "452 4.2.2 Mailbox full"
            case "spam":
                return "554 5.7.1 Not wanted"
        _say(
            {
                "sender": envelope.mail_from,
                "recipients": envelope.rcpt_tos,
                "content": base64.b64encode(envelope.content).decode(),
                "peer": str(session.peer),
                "is_encrypted": session.ssl is not None,
            }
        )
        if envelope.rcpt_tos[0].startswith("lost@"):
            server.transport.abort()
        if envelope.rcpt_tos[0].startswith("named@"):
            return "250 2.0.0 Ok: queued as 4Zx1Bc2dE3"
        return "250 Message accepted for delivery"


async def _serve(certificate: str, key: str, login: str) -> None:
    from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword  # only in this process

    def judge(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        return AuthResult(success=f"{data.login.decode()}:{data.password.decode()}" == login, handled=False)

    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, key)
    connections: list[SMTP] = []

    def connection() -> SMTP:
        made = SMTP(
            _Handler(),
            hostname="mail.example",
            tls_context=tls,
            require_starttls=tls is not None,
            auth_required=bool(login),
            authenticator=judge if login else None,
        )
        connections.append(made)
        return made

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(connection, "127.0.0.1", 0)
    _say(listening.sockets[0].getsockname()[1])
    while await asyncio.to_thread(sys.stdin.readline):
        for each in connections:
            if each.transport is not None:
                each.transport.close()
        _say("hung up")


def _say(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("certificate", "key", "login"):
        parser.add_argument(f"--{name}", default="")
    given = parser.parse_args()
    asyncio.run(_serve(given.certificate, given.key, given.login))
