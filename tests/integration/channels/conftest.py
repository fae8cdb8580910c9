"""Webhook channels that may reach this machine, and only because the test says so."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from workers.channels.egress import Egress
from workers.channels.signature import SigningSecrets
from workers.channels.webhook import WebhookChannel

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

HERE = Egress(plain_http=True, trusted=(ip_network("127.0.0.0/8"),))


def new_secret() -> str:
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
async def webhook() -> AsyncIterator[WebhookChannel]:
    channel = WebhookChannel(SigningSecrets.parse([SECRET]), HERE)
    yield channel
    await channel.close()
