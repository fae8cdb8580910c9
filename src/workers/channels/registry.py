"""The channels of a worker process, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING

from workers.channels.channel import Channel
from workers.channels.egress import Egress
from workers.channels.log import LogChannel
from workers.channels.signature import SigningSecrets
from workers.channels.webhook import WebhookChannel

if TYPE_CHECKING:
    from asyncpg import Pool, Record


@asynccontextmanager
async def open_channels(
    *,
    pool: Pool[Record],
    webhook_secrets: Sequence[str] = (),
    allow_private: Sequence[str] = (),
    plain_http: bool = False,
) -> AsyncIterator[Mapping[str, Channel]]:
    """Every channel there is, closed at the end of the block.

    `webhook_secrets`: `whsec_…`, newest first; without one, webhooks wait for it. `allow_private`: networks in CIDR
    form that webhooks may reach although they are not public. Raises ValueError when one of these is not in its form.
    """
    egress = Egress(plain_http=plain_http, trusted=tuple(ip_network(network) for network in allow_private))
    channels: tuple[Channel, ...] = (
        LogChannel(pool=pool),
        WebhookChannel(SigningSecrets.parse(webhook_secrets), egress),
    )
    try:
        yield {channel.name: channel for channel in channels}
    finally:
        for channel in channels:
            await channel.close()
