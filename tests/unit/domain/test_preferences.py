from __future__ import annotations

import pytest

from orchestrator.domain.gates import ANY
from orchestrator.domain.preferences import PreferenceChange, after, channel_fault, reason_fault


def change(channel: str, category: str, opted_out: bool) -> PreferenceChange:
    return PreferenceChange(channel=channel, category=category, opted_out=opted_out)


def test_changes_are_made_in_order_to_exactly_what_they_name() -> None:
    kept = after(
        {("log", "marketing"), (ANY, ANY)},
        [change("email", ANY, True), change(ANY, ANY, False), change("log", ANY, False), change("email", ANY, False)],
    )

    assert kept == {("log", "marketing")}


@pytest.mark.parametrize("channel", ["log", "webhook", "push-2_x", ANY, "x" * 64])
def test_channels_that_could_be(channel: str) -> None:
    assert channel_fault(channel, "channel") is None


@pytest.mark.parametrize("channel", ["", "Log", "a b", "**", "x" * 65, "1a", "log\n"])
def test_channels_that_cannot_be(channel: str) -> None:
    fault = channel_fault(channel, "changes[0].channel")

    assert fault is not None
    assert (fault.path, fault.reason) == ("changes[0].channel", "INVALID_VALUE")


@pytest.mark.parametrize(("reason", "expected"), [("asked", None), (" ", "REQUIRED"), ("x" * 256, "TOO_LONG")])
def test_a_suppression_has_a_reason(reason: str, expected: str | None) -> None:
    fault = reason_fault(reason, "reason")

    assert (fault.reason if fault else None) == expected
