"""The channels of a worker process, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING

from orchestrator.domain.email_address import Mailbox
from workers.channels.channel import Channel, OnAmbiguity
from workers.channels.egress import Egress
from workers.channels.email import EmailChannel
from workers.channels.log import LogChannel
from workers.channels.signature import SigningSecrets
from workers.channels.smtp import SmtpConnections, SmtpServer
from workers.channels.webhook import WebhookChannel

if TYPE_CHECKING:
    from asyncpg import Pool, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """How mail goes out. Without a `server` it waits; `sender` is for communications that name none."""

    server: SmtpServer | None = None
    sender: Mailbox | None = None
    on_ambiguity: OnAmbiguity = OnAmbiguity.AT_MOST_ONCE
    connections: int = 8


def egress_of(allow_private: Sequence[str] = (), *, plain_http: bool = False) -> Egress:
    """Where webhooks may go, as `open_channels` is told it. Raises ValueError."""
    return Egress(plain_http=plain_http, trusted=tuple(ip_network(network) for network in allow_private))


@asynccontextmanager
async def open_channels(
    *,
    pool: Pool[Record],
    webhook_secrets: Sequence[str] = (),
    allow_private: Sequence[str] = (),
    plain_http: bool = False,
    mail: Mail = Mail(),
) -> AsyncIterator[Mapping[str, Channel]]:
    """Every channel there is, closed at the end of the block.

    `webhook_secrets`: `whsec_…`, newest first; without one, webhooks wait for it. `allow_private`: networks in CIDR
    form that webhooks may reach although they are not public. Raises ValueError when one of these is not in its form,
    and OSError when the file of the mail server's authority cannot be read.
    """
    egress = egress_of(allow_private, plain_http=plain_http)
    channels: tuple[Channel, ...] = (
        LogChannel(pool=pool),
        WebhookChannel(SigningSecrets.parse(webhook_secrets), egress),
        EmailChannel(
            SmtpConnections(mail.server, most=mail.connections) if mail.server is not None else None,
            sender=mail.sender,
            on_ambiguity=mail.on_ambiguity,
        ),
    )
    try:
        yield {channel.name: channel for channel in channels}
    finally:
        for channel in channels:
            await channel.close()
