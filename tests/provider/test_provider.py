"""The provider tells the truth: tests lean on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.provider.client import RunningProvider, running_provider
from tests.provider.provider import Mode


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[RunningProvider]:
    async with running_provider(tmp_path) as running:
        yield running


async def post(provider: RunningProvider, key: str, timeout: float = 5.0) -> httpx.Response:
    async with httpx.AsyncClient(timeout=timeout) as client:
        return await client.post(provider.url, json={"data": {"subjectId": "ann"}}, headers={"idempotency-key": key})


async def test_a_repeated_key_is_answered_and_not_accepted_again(provider: RunningProvider) -> None:
    statuses = [(await post(provider, key)).status_code for key in ("a", "a", "b")]

    assert statuses == [200, 200, 200]
    assert [(receipt.key, receipt.accepted) for receipt in provider.receipts()] == [
        ("a", True),
        ("a", False),
        ("b", True),
    ]
    assert {receipt.subject_id for receipt in provider.receipts()} == {"ann"}


async def test_keys_outlive_the_process(tmp_path: Path) -> None:
    async with running_provider(tmp_path) as first:
        await post(first, "a")
    async with running_provider(tmp_path) as second:
        await post(second, "a")

        assert [receipt.accepted for receipt in second.receipts()] == [True, False]


async def test_without_keys_every_repeat_is_accepted(tmp_path: Path) -> None:
    async with running_provider(tmp_path, honours_keys=False) as provider:
        await post(provider, "a")
        await post(provider, "a")

        assert len(provider.accepted()) == 2


async def test_a_silent_provider_has_accepted_what_it_does_not_answer(provider: RunningProvider) -> None:
    await provider.set_mode(Mode(kind="silent", times=1))

    with pytest.raises(httpx.ReadTimeout):
        await post(provider, "a", timeout=0.3)

    assert [receipt.key for receipt in provider.accepted()] == ["a"]
    assert (await post(provider, "a")).status_code == 200


@pytest.mark.parametrize(
    ("mode", "status", "accepted"),
    [
        (Mode(kind="fail", status=500), 500, 0),
        (Mode(kind="fail", status=422), 422, 0),
        (Mode(kind="lost", status=502), 502, 1),
    ],
)
async def test_it_fails_as_it_is_told_and_then_recovers(
    provider: RunningProvider, mode: Mode, status: int, accepted: int
) -> None:
    mode.times = 1
    await provider.set_mode(mode)

    assert (await post(provider, "a")).status_code == status
    assert len(provider.accepted()) == accepted
    assert (await post(provider, "a")).status_code == 200
    assert len(provider.accepted()) == 1


async def test_an_answer_of_rubbish_is_about_a_message_that_was_taken(provider: RunningProvider) -> None:
    await provider.set_mode(Mode(kind="rubbish"))

    answer = await post(provider, "a")

    assert answer.status_code == 200
    with pytest.raises(ValueError, match="codec"):
        answer.json()
    assert len(provider.accepted()) == 1


async def test_a_throttling_provider_says_for_how_long(provider: RunningProvider) -> None:
    await provider.set_mode(Mode(kind="fail", status=429, retry_after="7"))

    answer = await post(provider, "a")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


async def test_a_message_says_of_which_execution_and_step_it_is_and_a_call_only_what_it_says(
    provider: RunningProvider,
) -> None:
    data = {"subjectId": "ann", "executionId": "e", "stepId": "hello", "body": "Good day"}
    async with httpx.AsyncClient() as client:
        await client.post(provider.url, json={"data": data}, headers={"idempotency-key": "a"})
        answers = [
            await client.post(provider.step_url, content=b'{"n": 1}', headers={"idempotency-key": "b"})
            for _ in range(2)
        ]

    message, call, repeat = provider.receipts()
    assert (message.execution_id, message.step_id, message.text) == ("e", "hello", "Good day")
    assert (call.execution_id, call.step_id, call.text) == ("", "", '{"n": 1}')
    assert (call.accepted, repeat.accepted) == (True, False)
    assert [answer.json() for answer in answers] == [{"id": "provider-b"}] * 2
