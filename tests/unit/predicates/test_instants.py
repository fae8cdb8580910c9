from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.predicates.instants import parse_instant, write_instant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-10T12:00:00Z", datetime(2026, 3, 10, 12, tzinfo=UTC)),
        ("2026-03-10t12:00:00z", datetime(2026, 3, 10, 12, tzinfo=UTC)),
        ("2026-03-10T12:00:00+00:00", datetime(2026, 3, 10, 12, tzinfo=UTC)),
        ("2026-03-10T12:00:00-00:00", datetime(2026, 3, 10, 12, tzinfo=UTC)),
        ("2026-03-10T12:00:00-23:59", datetime(2026, 3, 11, 11, 59, tzinfo=UTC)),
        ("2026-03-10T00:00:00+05:45", datetime(2026, 3, 9, 18, 15, tzinfo=UTC)),
        ("2026-03-10T12:00:00.5Z", datetime(2026, 3, 10, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-03-10T12:00:00.000001Z", datetime(2026, 3, 10, 12, 0, 0, 1, tzinfo=UTC)),
        ("2026-03-10T12:00:00.1234569Z", datetime(2026, 3, 10, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
        ("1900-01-01T00:00:00Z", datetime(1900, 1, 1, tzinfo=UTC)),
        ("2200-12-31T23:59:59.999999Z", datetime(2200, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2201-01-01T00:00:00+00:01", datetime(2200, 12, 31, 23, 59, tzinfo=UTC)),
    ],
)
def test_an_rfc_3339_time_with_an_offset_is_an_instant(text: str, expected: datetime) -> None:
    assert parse_instant(text) == expected
    assert parse_instant(write_instant(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "infinity", "2026", "2026-03-10", "12:00:00Z", "20260310T120000Z", "2026-069T12:00:00Z"),
        *("2026-03-10T12:00:00", "2026-03-10T12:00Z", "2026-03-10T12Z", "2026-03-10 12:00:00Z"),
        *(
            "2026-03-10T12:00:00+01",
            "2026-03-10T12:00:00+0100",
            "2026-03-10T12:00:00+24:00",
            "2026-03-10T12:00:00+01:60",
        ),
        *("2026-03-10T24:00:00Z", "2026-03-10T12:60:00Z", "2026-06-30T23:59:60Z", "2026-03-10T12:00:00.Z"),
        *("2026-02-29T12:00:00Z", "2026-02-30T12:00:00Z", "2026-13-01T12:00:00Z", "2026-00-10T12:00:00Z"),
        *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "99999-01-01T00:00:00Z"),
        *(
            "1899-12-31T23:59:59.999999Z",
            "1900-01-01T00:00:00+00:01",
            "2201-01-01T00:00:00Z",
            "2200-12-31T23:59:59-00:01",
        ),
        *(" 2026-03-10T12:00:00Z", "2026-03-10T12:00:00Z ", "2026-03-10T12:00:00Z\n", "-2026-03-10T12:00:00Z"),
        *("2026-03-10T12:00:00,5Z", "２０２６-03-10T12:00:00Z", "2026-03-10T12:00:00 Z", "2026-03-10T12:00:00ZZ"),
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert parse_instant(text) is None


offsets = st.integers(-(24 * 60 - 1), 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))


microseconds = st.integers(0, 10**15 * 8).map(lambda count: timedelta(microseconds=count))


@given(microseconds, offsets)
def test_every_instant_survives_being_written(since_1901: timedelta, offset: timezone) -> None:
    instant = (datetime(1901, 1, 1, tzinfo=UTC) + since_1901).astimezone(offset)

    assert parse_instant(instant.isoformat()) == instant
    assert parse_instant(write_instant(instant)) == instant
    assert parse_instant(instant.isoformat(timespec="microseconds") + "junk") is None


@given(st.text(alphabet="0123456789-:.TZ+ ", max_size=35))
def test_no_text_makes_it_fail(text: str) -> None:
    instant = parse_instant(text)

    assert instant is None or instant.utcoffset() == timedelta(0)
