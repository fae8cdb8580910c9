"""Signatures, judged by the library that receivers use."""

from __future__ import annotations

import base64
import os
import random
import time
from dataclasses import replace

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.integration.channels.conftest import HERE, SECRET, new_secret
from tests.integration.channels.messages import MESSAGE, to
from tests.integration.channels.receiver import receiving
from workers.channels.signature import SigningSecrets
from workers.channels.webhook import WebhookChannel


async def test_what_arrives_is_signed(webhook: WebhookChannel) -> None:
    async with receiving() as receiver:
        await webhook.send(to(f"http://127.0.0.1:{receiver.port}/"))

    (request,) = receiver.requests
    verified = Webhook(SECRET).verify(request.body, dict(request.headers))
    assert verified["data"]["subject"] == "Hello Ann"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60


async def test_while_secrets_change_over_both_receivers_are_content() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    channel = WebhookChannel(SigningSecrets.parse([new, old]), HERE)
    async with receiving() as receiver:
        await channel.send(to(f"http://127.0.0.1:{receiver.port}/"))
    await channel.close()

    (request,) = receiver.requests
    for secret in (old, new):
        Webhook(secret).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(request.body, dict(request.headers))


@pytest.mark.parametrize(("length", "count"), [(24, 100), (32, 1000), (64, 100)])
def test_every_body_verifies_and_none_that_was_touched(length: int, count: int) -> None:
    secret = "whsec_" + base64.b64encode(os.urandom(length)).decode()
    secrets, receiver = SigningSecrets.parse([secret]), Webhook(secret)
    draw = random.Random(length)
    now = int(time.time())

    for number in range(count):
        body = "".join(draw.choices('{}":,abc é☺\n', k=draw.randrange(1, 200))).encode()
        headers = secrets.headers(f"{number:064x}", now, body)
        receiver.verify(body, headers, json_parse=False)

        for touched_body, touched in (
            (body + b" ", headers),
            (body, headers | {"webhook-id": f"{number + 1:064x}"}),
            (body, headers | {"webhook-timestamp": str(now - 1)}),
            (body, secrets.headers(f"{number:064x}", now - 301, body)),
            (body, SigningSecrets.parse([new_secret()]).headers(f"{number:064x}", now, body)),
        ):
            with pytest.raises(WebhookVerificationError):
                receiver.verify(touched_body, touched, json_parse=False)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "secret",
        "whsec_" + "not base64!",
        base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_a_secret_of_another_form_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="a signing secret is whsec_") as refused:
        SigningSecrets.parse([secret])

    assert len(secret) < 8 or secret not in str(refused.value)


def test_secrets_do_not_show_in_their_text() -> None:
    shown = repr(SigningSecrets.parse([SECRET]))

    assert SECRET not in shown
    assert repr(bytes(range(32))) not in shown


async def test_other_messages_have_other_signatures(webhook: WebhookChannel) -> None:
    async with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        await webhook.send(to(url))
        await webhook.send(to(url, replace(MESSAGE, idempotency_key="e" * 64)))

    assert len({request.headers["webhook-signature"] for request in receiver.requests}) == 2
