"""Every channel that communications may name can be opened, and says what it promises."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.advance import SEND_TIMEOUT
from orchestrator.domain.channels import CHANNELS
from tests.integration.channels.conftest import SECRET
from tests.integration.channels.messages import to
from tests.integration.channels.receiver import receiving
from workers.channels.channel import Accepted, OnAmbiguity
from workers.channels.registry import open_channels

if TYPE_CHECKING:
    from asyncpg import Pool, Record


async def test_there_is_a_channel_for_every_name(worker_pool: Pool[Record]) -> None:
    async with open_channels(pool=worker_pool, webhook_secrets=[SECRET]) as channels:
        assert set(channels) == set(CHANNELS)
        for name, channel in channels.items():
            assert channel.name == name
            assert channel.key_life is None or channel.key_life > timedelta(0)
            assert isinstance(channel.on_ambiguity, OnAmbiguity)
            # One try has to fit in what an execution gives it, with both transactions.
            assert channel.timeout + timedelta(seconds=5) <= SEND_TIMEOUT


async def test_what_is_allowed_reaches_the_webhooks(worker_pool: Pool[Record]) -> None:
    async with (
        receiving() as receiver,
        open_channels(
            pool=worker_pool, webhook_secrets=[SECRET], allow_private=["127.0.0.0/8"], plain_http=True
        ) as channels,
    ):
        answer = await channels["webhook"].send(to(f"http://127.0.0.1:{receiver.port}/"))

    assert isinstance(answer, Accepted)


@pytest.mark.parametrize("allow_private", ["127.0.0.1/8", "localhost", "10.0.0.0/33"])
async def test_a_network_of_another_form_is_refused(worker_pool: Pool[Record], allow_private: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits"):
        async with open_channels(pool=worker_pool, allow_private=[allow_private]):
            pass
