"""Calls of webhook steps, over real sockets."""

from __future__ import annotations

from asyncio import StreamWriter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from standardwebhooks import Webhook as Judge

from orchestrator.domain.webhook_answer import MAX_ANSWER_BYTES
from tests.integration.channels.conftest import HERE, SECRET
from tests.integration.channels.receiver import Answer, answering, receiving
from tests.provider.wire import Request
from workers.channels.egress import Egress
from workers.channels.signature import SigningSecrets
from workers.channels.webhook import MAX_BODY_BYTES
from workers.step_calls import NotNow, NotTaken, StepCall, StepCalls, Taken

CALL = StepCall(
    idempotency_key="k" * 64,
    method="post",
    url="http://127.0.0.1/",
    headers={"X-Team": "growth", "Idempotency-Key": "theirs"},
    body=b'{"a":1}',
    timeout=timedelta(seconds=5),
)


@pytest.fixture
async def calls() -> AsyncIterator[StepCalls]:
    async with StepCalls(SigningSecrets.parse([SECRET]), HERE) as calls:
        yield calls


def to(port: int, path: str = "/x") -> str:
    return f"http://127.0.0.1:{port}{path}"


async def silent(_: Request, writer: StreamWriter) -> None:
    """Says nothing, and listens on."""


async def drops(_: Request, writer: StreamWriter) -> None:
    writer.close()


async def breaks_off(_: Request, writer: StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 -\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()


async def test_a_receiver_gets_the_request_its_key_and_a_signature(calls: StepCalls) -> None:
    async with receiving(answering(201, b'{"ok": true}')) as receiver:
        made = await calls.make(replace(CALL, url=to(receiver.port, "/x?y=%20")))

    assert made == Taken(status=201, body=b'{"ok": true}')
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/x?y=%20", CALL.body)
    assert request.headers["idempotency-key"] == CALL.idempotency_key
    assert request.headers["x-team"] == "growth"
    assert request.headers["content-type"] == "application/json"
    assert Judge(SECRET).verify(request.body, dict(request.headers)) == {"a": 1}


async def test_without_a_body_or_secrets_there_is_neither() -> None:
    async with StepCalls(egress=HERE) as calls, receiving() as receiver:
        await calls.make(replace(CALL, url=to(receiver.port), method="get", body=None))

    (request,) = receiver.requests
    assert (request.method, request.body) == ("GET", b"")
    assert not {"content-type", "webhook-signature"} & request.headers.keys()


async def test_of_an_answer_that_is_too_large_no_more_is_read_than_shows_it(calls: StepCalls) -> None:
    async with receiving(answering(200, b"x" * 1_000_000)) as receiver:
        made = await calls.make(replace(CALL, url=to(receiver.port)))

    assert isinstance(made, Taken)
    assert len(made.body) == MAX_ANSWER_BYTES + 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answering(302, location="http://10.0.0.1/"), NotTaken(reason="redirected", status=302)),
        (answering(404), NotTaken(reason="rejected", status=404)),
        (answering(410), NotTaken(reason="gone", status=410)),
        (answering(429, retry_after="7"), ("throttled", 429, timedelta(seconds=7))),
        (answering(500), ("receiver_failed", 500, None)),
        (silent, ("timeout", None, None)),
        (drops, ("connection_lost", None, None)),
        (breaks_off, ("connection_lost", None, None)),
    ],
    ids=["redirect", "not found", "gone", "throttled", "failed", "silent", "drops", "breaks off"],
)
async def test_what_a_receiver_does_is_told_apart(
    calls: StepCalls, answer: Answer, expected: NotTaken | tuple[str, int | None, timedelta | None]
) -> None:
    async with receiving(answer) as receiver:
        call = replace(CALL, url=to(receiver.port), timeout=timedelta(seconds=0.5 if answer is silent else 5))
        if isinstance(expected, NotTaken):
            assert await calls.make(call) == expected
        else:
            with pytest.raises(NotNow) as raised:
                await calls.make(call)
            told = raised.value
            assert (told.reason, told.status, told.retry_after) == expected
            assert told.unreached == (told.status is None)


@pytest.mark.parametrize(
    ("url", "body", "reason"),
    [
        ("https://10.0.0.1/", b"{}", "address_forbidden"),
        ("https://169.254.169.254/latest/meta-data", b"{}", "address_forbidden"),
        ("https://localhost/", b"{}", "address_forbidden"),
        ("http://example.com/", b"{}", "url_forbidden"),
        ("https://example.com/a/../b", b"{}", "url_forbidden"),
        ("https://example.com/a/%2E%2e/b", b"{}", "url_forbidden"),
        ("https://example.com/a b", b"{}", "url_forbidden"),
        ("https://example.com/" + "x" * 9000, b"{}", "url_forbidden"),
        ("https://example.com/", b"x" * (MAX_BODY_BYTES + 1), "body_too_large"),
    ],
)
async def test_nothing_goes_where_it_must_not(url: str, body: bytes, reason: str) -> None:
    async with StepCalls(egress=Egress()) as calls:
        assert await calls.make(replace(CALL, url=url, body=body)) == NotTaken(reason=reason)


async def test_nobody_listens_is_not_now(calls: StepCalls) -> None:
    async with receiving() as receiver:
        port = receiver.port
    with pytest.raises(NotNow, match="unreachable"):
        await calls.make(replace(CALL, url=to(port)))
