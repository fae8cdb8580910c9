"""What is kept of what a webhook answers."""

from __future__ import annotations

import pytest

from orchestrator.domain.webhook_answer import MAX_ANSWER_BYTES, read_answer


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (None, None)),
        (b'{"score": 7, "list": [1.5, null, "x"]}', ({"score": 7, "list": [1.5, None, "x"]}, None)),
        (b"{}", ({}, None)),
        (b"<html>", (None, "answer_no_object")),
        (b'{"a": "\xff"}', (None, "answer_no_object")),
        (b'{"a": "\\ud800"}', (None, "answer_no_object")),
        (b"[1]", (None, "answer_no_object")),
        (b"NaN", (None, "answer_no_object")),
        (b'{"a": [{"b": "\\u0000"}]}', (None, "answer_unusable")),
        (b'{"\\u0000": 1}', (None, "answer_unusable")),
        (b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", (None, "answer_unusable")),
        (b'{"a":' + b"[" * 4000 + b"]" * 4000 + b"}", (None, "answer_no_object")),
        (b'{"a": "' + b"x" * MAX_ANSWER_BYTES + b'"}', (None, "answer_too_large")),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_small_object_is_kept_and_anything_else_has_a_name(
    body: bytes, expected: tuple[dict[str, object] | None, str | None]
) -> None:
    assert read_answer(body) == expected


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"123456789012345678901234567890"])
def test_no_number_is_kept_that_is_none(number: bytes) -> None:
    answer, reason = read_answer(b'{"a": ' + number + b"}")

    assert (answer is None) == (reason is not None)
    assert answer is None or abs(answer["a"]) < float("inf")
