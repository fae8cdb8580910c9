from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.channel_rate import ChannelRate

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TEN = ChannelRate(channel="log", per_second=10, burst=5)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("used_to", "closed_until", "within", "room"),
    [
        (None, None, 0, 5),
        (later(-3600), None, 0, 5),  # a rest is worth a burst, however long it was
        (later(0.4), None, 0, 1),
        (later(0.41), None, 0, 0),
        (later(0.41), None, 0.01, 1),
        (later(5), None, 4.6, 1),
        (None, None, 1, 15),
        (None, later(2), 1.99, 0),
        (None, later(2), 2, 1),
        (later(10), later(2), 2, 0),
    ],
)
def test_room_is_what_may_begin_until_then(
    used_to: datetime | None, closed_until: datetime | None, within: float, room: int
) -> None:
    assert TEN.room(used_to, closed_until, NOON, timedelta(seconds=within)) == room
