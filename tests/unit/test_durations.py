from __future__ import annotations

from datetime import timedelta

import isodate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.durations import TWO_YEARS, format_duration, parse_duration
from orchestrator.predicates.spans import read_units


@pytest.mark.parametrize(
    ("text", "duration", "written"),
    [
        ("0s", timedelta(), "0s"),
        ("2s", timedelta(seconds=2), "2s"),
        ("0.5s", timedelta(milliseconds=500), "0.5s"),
        ("1.500s", timedelta(milliseconds=1500), "1.5s"),
        ("0.000001s", timedelta(microseconds=1), "0.000001s"),
        ("90m", timedelta(minutes=90), "90m"),
        ("1h30m", timedelta(minutes=90), "90m"),
        ("12h", timedelta(hours=12), "12h"),
        ("24h", timedelta(days=1), "1d"),
        ("3d", timedelta(days=3), "3d"),
        ("7d", timedelta(weeks=1), "1w"),
        ("8d", timedelta(days=8), "8d"),
        ("1w", timedelta(weeks=1), "1w"),
        ("1d12h", timedelta(hours=36), "36h"),
        ("1d1s", timedelta(days=1, seconds=1), "1d1s"),
        ("86401s", timedelta(days=1, seconds=1), "1d1s"),
        ("1w2d3h4m5.6s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5, milliseconds=600), "788645.6s"),
        ("007d", timedelta(days=7), "1w"),
        ("P3D", timedelta(days=3), "3d"),
        ("PT90M", timedelta(minutes=90), "90m"),
        ("P1W", timedelta(weeks=1), "1w"),
        ("P1DT12H", timedelta(hours=36), "36h"),
        ("PT0S", timedelta(), "0s"),
        ("PT0.25S", timedelta(milliseconds=250), "0.25s"),
        ("730d", TWO_YEARS, "730d"),
    ],
)
def test_durations_are_read_and_written_back_at_their_shortest(text: str, duration: timedelta, written: str) -> None:
    assert parse_duration(text) == duration
    assert format_duration(duration) == written


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not a duration"),
        ("5", "not a duration"),
        ("d", "not a duration"),
        ("-1d", "not a duration"),
        ("+1d", "not a duration"),
        ("1.5h", "not a duration"),
        ("1 d", "not a duration"),
        (" 1d", "not a duration"),
        ("1d\n", "not a duration"),
        ("1D", "not a duration"),
        ("12h1d", "not a duration"),
        ("1d1d", "not a duration"),
        (".5s", "not a duration"),
        ("1.s", "not a duration"),
        ("1ms", "not a duration"),
        ("1y", "not a duration"),
        ("٣d", "not a duration"),
        ("NaN", "not a duration"),
        ("P", "not a duration"),
        ("PT", "not a duration"),
        ("P1DT", "not a duration"),
        ("p1d", "not a duration"),
        ("-P1D", "not a duration"),
        ("PT1D", "not a duration"),
        ("P1H", "not a duration"),
        ("P1Y", "no fixed length"),
        ("P1M", "no fixed length"),
        ("P1Y2M3DT4H", "no fixed length"),
        ("1.0000001s", "microsecond"),
        ("731d", "at most 730d"),
        ("730d0.000001s", "at most 730d"),
        ("9" * 60 + "w", "longer than"),
        ("1" * 64 + "d", "at most 64 characters"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_duration(text)


def test_the_longest_duration_is_the_callers_choice() -> None:
    assert parse_duration("365d", longest=timedelta(days=365)) == timedelta(days=365)
    with pytest.raises(ValueError, match="at most 365d here"):
        parse_duration("366d", longest=timedelta(days=365))


durations = st.timedeltas(timedelta(), TWO_YEARS) | st.integers(0, 63_072_000).map(lambda s: timedelta(seconds=s))


@given(durations)
def test_what_is_written_reads_as_the_same_duration(duration: timedelta) -> None:
    written = format_duration(duration)

    assert parse_duration(written) == duration
    assert format_duration(parse_duration(written)) == written


@given(durations)
def test_what_another_library_writes_in_iso_8601_reads_as_the_same_duration(duration: timedelta) -> None:
    assert parse_duration(isodate.duration_isoformat(duration)) == duration


@given(st.text(alphabet="0123456789wdhmsPTYMWDHS.-", max_size=12))
def test_no_text_does_anything_but_read_or_be_refused(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert timedelta() <= duration <= TWO_YEARS


@pytest.mark.parametrize(
    ("units", "duration"),
    [
        ({"days": 3}, timedelta(days=3)),
        ({"weeks": 1, "hours": 12.0, "seconds": None}, timedelta(weeks=1, hours=12)),
        ({"minutes": 0}, timedelta()),
    ],
)
def test_units_are_added_up(units: dict[str, object], duration: timedelta) -> None:
    assert read_units(units) == duration


@pytest.mark.parametrize(
    "units",
    [
        *({}, {"days": None}, {"days": 1.5}, {"days": -1}, {"days": "3"}, {"days": True}, {"days": 3, "years": 1}),
        *({"days": float("nan")}, {"days": float("inf")}, {"weeks": 10**40}, {"days": [3]}),
    ],
)
def test_what_is_no_whole_number_of_a_known_unit_is_refused(units: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="duration"):
        read_units(units)
