"""The channel `webhook`, over real sockets."""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamWriter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.integration.channels.conftest import HERE
from tests.integration.channels.messages import MESSAGE, to
from tests.integration.channels.receiver import answering, receiving
from tests.provider.client import running_provider
from tests.provider.provider import Mode
from tests.provider.wire import Request, response
from workers.channels.channel import Accepted, ChannelUnavailable, Refused
from workers.channels.signature import SigningSecrets
from workers.channels.webhook import LONGEST_PAUSE, MAX_ANSWER_BYTES, MAX_BODY_BYTES, WebhookChannel


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/hook?from=us"


async def test_a_receiver_gets_the_message_and_its_key(webhook: WebhookChannel) -> None:
    async with receiving() as receiver:
        answer = await webhook.send(to(url(receiver.port)))

    assert answer == Accepted(provider_id=None)
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook?from=us")
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == request.headers["webhook-id"] == MESSAGE.idempotency_key
    assert json.loads(request.body) == {
        "type": "journey.message",
        "data": {
            "messageId": MESSAGE.idempotency_key,
            "subjectId": "ann@example.com",
            "communicationId": "hi",
            "contentRevision": 2,
            "journeyId": "welcome",
            "journeyVersion": 3,
            "executionId": "019a0000-0000-7000-8000-000000000001",
            "stepId": "hello",
            "subject": "Hello Ann",
            "body": "Good to see you, Ännchen ☺",
        },
    }


async def test_every_try_sends_the_same_bytes_under_the_same_key(webhook: WebhookChannel) -> None:
    async with receiving() as receiver:
        for _ in range(3):
            await webhook.send(to(url(receiver.port)))

    assert len({request.body for request in receiver.requests}) == 1
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert receiver.connections == 1


async def test_headers_of_the_communication_are_sent_and_cannot_replace_ours(webhook: WebhookChannel) -> None:
    headers = {"Authorization": "Bearer x", "Idempotency-Key": "theirs", "WEBHOOK-ID": "theirs", "Host": "theirs"}
    async with receiving() as receiver:
        await webhook.send(to(url(receiver.port), headers=headers))

    sent = receiver.requests[0].headers
    assert sent["authorization"] == "Bearer x"
    assert "theirs" not in sent.values()


@pytest.mark.parametrize(
    ("body", "provider_id"),
    [
        (b'{"id": "m-1", "more": [1]}', "m-1"),
        (b"", None),
        (b"ok", None),
        (b"[1]", None),
        (b'{"id": 7}', None),
        (b'{"id": ""}', None),
        (b'{"id": "a\\u0000b"}', None),
        (b'{"id": "' + b"x" * 257 + b'"}', None),
        (b'{"id": "m-1", "x": "' + b"x" * MAX_ANSWER_BYTES + b'"}', None),
    ],
)
async def test_an_id_in_the_answer_is_kept(webhook: WebhookChannel, body: bytes, provider_id: str | None) -> None:
    async with receiving(answering(201, body)) as receiver:
        assert await webhook.send(to(url(receiver.port))) == Accepted(provider_id=provider_id)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (301, "redirected"),
        (302, "redirected"),
        (304, "redirected"),
        (307, "redirected"),
        (308, "redirected"),
        (400, "rejected"),
        (401, "rejected"),
        (404, "rejected"),
        (410, "gone"),
        (413, "rejected"),
        (422, "rejected"),
    ],
)
async def test_a_refusal_is_an_outcome_and_quotes_nothing(webhook: WebhookChannel, status: int, reason: str) -> None:
    async with receiving() as elsewhere:
        refusing = answering(status, b"ann@example.com is unknown", location=url(elsewhere.port))
        async with receiving(refusing) as receiver:
            assert await webhook.send(to(url(receiver.port))) == Refused(reason=reason)

    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("status", "reason", "in_doubt"),
    [
        (408, "receiver_timeout", False),
        (425, "too_early", False),
        (429, "throttled", False),
        (500, "receiver_failed", True),
        (502, "receiver_failed", True),
        (503, "receiver_failed", True),
        (504, "receiver_failed", True),
    ],
)
async def test_an_answer_that_means_later_says_whether_it_is_in_doubt(
    webhook: WebhookChannel, status: int, reason: str, in_doubt: bool
) -> None:
    async with receiving(answering(status, b"x")) as receiver:
        with pytest.raises(ChannelUnavailable) as unavailable:
            await webhook.send(to(url(receiver.port)))

    assert (unavailable.value.reason, unavailable.value.in_doubt) == (reason, in_doubt)
    assert unavailable.value.retry_after is None
    assert not unavailable.value.unreached


def in_a_minute() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0", timedelta(0), timedelta(0)),
        ("7", timedelta(seconds=7), timedelta(seconds=7)),
        ("86400", LONGEST_PAUSE, LONGEST_PAUSE),
        ("9" * 400, LONGEST_PAUSE, LONGEST_PAUSE),
        ("in a minute", timedelta(seconds=50), timedelta(seconds=61)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", timedelta(0), timedelta(0)),
        ("Wed, 21 Oct 2015 07:28:00", timedelta(0), timedelta(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_PAUSE, LONGEST_PAUSE),
    ],
)
async def test_a_receiver_may_say_how_long_to_wait(
    webhook: WebhookChannel, header: str, least: timedelta, most: timedelta
) -> None:
    header = in_a_minute() if header == "in a minute" else header
    async with receiving(answering(429, retry_after=header)) as receiver:
        with pytest.raises(ChannelUnavailable) as unavailable:
            await webhook.send(to(url(receiver.port)))

    assert unavailable.value.retry_after is not None
    assert least <= unavailable.value.retry_after <= most


@pytest.mark.parametrize("header", ["", "soon", "-5", "1.5", "٣", "Wed, 99 Oct 2015 07:28:00 GMT", "1e9"])
async def test_a_wait_that_cannot_be_read_is_none(webhook: WebhookChannel, header: str) -> None:
    async with receiving(answering(503, retry_after=header.encode().decode("latin-1"))) as receiver:
        with pytest.raises(ChannelUnavailable) as unavailable:
            await webhook.send(to(url(receiver.port)))

    assert unavailable.value.retry_after is None


async def test_a_receiver_that_is_not_there_has_certainly_not_taken_the_message(webhook: WebhookChannel) -> None:
    async with receiving() as receiver:
        pass

    with pytest.raises(ChannelUnavailable) as unavailable:
        await webhook.send(to(url(receiver.port)))

    assert (unavailable.value.reason, unavailable.value.in_doubt) == ("unreachable", False)
    assert unavailable.value.unreached


async def test_a_name_without_an_address_may_get_one(webhook: WebhookChannel) -> None:
    with pytest.raises(ChannelUnavailable) as unavailable:
        await webhook.send(to("http://nowhere.invalid/"))

    assert (unavailable.value.reason, unavailable.value.in_doubt) == ("unreachable", False)
    assert unavailable.value.unreached


async def hang_up(_: Request, writer: StreamWriter) -> None:
    writer.transport.abort()


async def talk_nonsense(_: Request, writer: StreamWriter) -> None:
    writer.write(b"220 mail ready\r\n")
    writer.close()


async def answer_half(_: Request, writer: StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-len")
    writer.close()


@pytest.mark.parametrize("behaviour", [hang_up, talk_nonsense, answer_half])
async def test_a_connection_that_is_lost_leaves_the_message_in_doubt(
    webhook: WebhookChannel, behaviour: object
) -> None:
    async with receiving(behaviour) as receiver:  # type: ignore[arg-type]
        with pytest.raises(ChannelUnavailable) as unavailable:
            await webhook.send(to(url(receiver.port)))

    assert (unavailable.value.reason, unavailable.value.in_doubt) == ("connection_lost", True)
    assert unavailable.value.unreached


async def test_a_status_line_decides_even_if_the_rest_never_comes(webhook: WebhookChannel) -> None:
    async def stop_after_the_head(_: Request, writer: StreamWriter) -> None:
        writer.write(b'HTTP/1.1 202 OK\r\ncontent-length: 100\r\n\r\n{"id": ')

    async with receiving(stop_after_the_head) as receiver:
        async with asyncio.timeout(5):
            assert await webhook.send(to(url(receiver.port))) == Accepted(provider_id=None)


async def test_an_answer_without_end_is_not_read_to_its_end(webhook: WebhookChannel) -> None:
    async def flood(_: Request, writer: StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()

    async with receiving(flood) as receiver:
        async with asyncio.timeout(5):
            assert await webhook.send(to(url(receiver.port))) == Accepted(provider_id=None)


async def test_a_message_over_20_kb_is_refused_unsent(webhook: WebhookChannel) -> None:
    async with receiving() as receiver:
        too_large = replace(MESSAGE, body="x" * MAX_BODY_BYTES)
        assert await webhook.send(to(url(receiver.port), too_large)) == Refused(reason="message_too_large")
        assert receiver.requests == []

        fitting = replace(MESSAGE, body="x" * (MAX_BODY_BYTES - 600))
        assert isinstance(await webhook.send(to(url(receiver.port), fitting)), Accepted)


async def test_without_a_secret_messages_wait_for_one() -> None:
    channel = WebhookChannel(SigningSecrets.parse([]), HERE)
    async with receiving() as receiver:
        with pytest.raises(ChannelUnavailable) as unavailable:
            await channel.send(to(url(receiver.port)))
    await channel.close()

    assert (unavailable.value.reason, unavailable.value.in_doubt) == ("signing_secret_missing", False)
    assert receiver.requests == []


async def test_a_send_that_is_canceled_does_not_harm_the_next_one(webhook: WebhookChannel) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def wait_first(_: Request, writer: StreamWriter) -> None:
        arrived.set()
        await go_on.wait()
        writer.write(response(200))

    async with receiving(wait_first) as receiver:
        first = asyncio.create_task(webhook.send(to(url(receiver.port))))
        await arrived.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()

        assert isinstance(await webhook.send(to(url(receiver.port))), Accepted)


async def test_a_key_honouring_provider_accepts_once_however_often_we_try(
    webhook: WebhookChannel, tmp_path: Path
) -> None:
    async with running_provider(tmp_path) as provider:
        for mode in (Mode(kind="fail", status=503), Mode(kind="lost", status=502), Mode(kind="fail", status=500)):
            await provider.set_mode(mode)
            with pytest.raises(ChannelUnavailable) as unavailable:
                await webhook.send(to(provider.url))
            assert unavailable.value.in_doubt
        await provider.set_mode(Mode())

        assert await webhook.send(to(provider.url)) == Accepted(provider_id=f"provider-{MESSAGE.idempotency_key[:12]}")
        assert [receipt.accepted for receipt in provider.receipts()] == [False, True, False, False]
