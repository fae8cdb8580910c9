"""Times of day and dates in the time zones of subjects, also when clocks are changed there."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.hours import Hours
from orchestrator.domain.journey import AttributeDate
from orchestrator.domain.local_time import at_local, attribute_date, end_of, next_start_of, next_time_of_day

NEW_YORK = "America/New_York"
BERLIN = "Europe/Berlin"
LORD_HOWE = "Australia/Lord_Howe"
APIA = "Pacific/Apia"
SAO_PAULO = "America/Sao_Paulo"

MONDAY, SUNDAY, FRIDAY, SATURDAY = 0, 6, 4, 5

INSTANTS = st.integers(946_684_800, 2_114_380_800).map(lambda second: datetime.fromtimestamp(second, UTC))
CLOCKS = st.times().map(lambda clock: clock.replace(microsecond=0))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestAtLocal:
    @pytest.mark.parametrize(
        ("zone", "day", "clock", "expected"),
        [
            ("UTC", "2026-03-08", "02:30", "2026-03-08T02:30"),
            (NEW_YORK, "2026-03-07", "02:30", "2026-03-07T07:30"),
            # 02:00 to 03:00 is jumped over, at 07:00 UTC.
            (NEW_YORK, "2026-03-08", "01:59:59", "2026-03-08T06:59:59"),
            (NEW_YORK, "2026-03-08", "02:00", "2026-03-08T07:00"),
            (NEW_YORK, "2026-03-08", "02:30", "2026-03-08T07:00"),
            (NEW_YORK, "2026-03-08", "02:59:59", "2026-03-08T07:00"),
            (NEW_YORK, "2026-03-08", "03:00", "2026-03-08T07:00"),
            (NEW_YORK, "2026-03-08", "03:30", "2026-03-08T07:30"),
            (BERLIN, "2026-03-29", "02:30", "2026-03-29T01:00"),
            # 01:00 to 02:00 is shown twice.
            (NEW_YORK, "2026-11-01", "01:30", "2026-11-01T05:30"),
            (NEW_YORK, "2026-11-01", "02:00", "2026-11-01T07:00"),
            (BERLIN, "2026-10-25", "02:30", "2026-10-25T00:30"),
            # Half an hour: 02:00 to 02:30 is jumped over, 01:30 to 02:00 shown twice.
            (LORD_HOWE, "2026-10-04", "02:15", "2026-10-03T15:30"),
            (LORD_HOWE, "2026-10-04", "02:30", "2026-10-03T15:30"),
            (LORD_HOWE, "2026-04-05", "01:45", "2026-04-04T14:45"),
            # There was no 30th of December, anywhere between 10:00 UTC and itself.
            (APIA, "2011-12-29", "23:59:59", "2011-12-30T09:59:59"),
            (APIA, "2011-12-30", "09:30", "2011-12-30T10:00"),
            (APIA, "2011-12-31", "00:00", "2011-12-30T10:00"),
            # A day that has no midnight begins at one.
            (SAO_PAULO, "2018-11-04", "00:00", "2018-11-04T03:00"),
        ],
    )
    def test_the_instant_at_which_clocks_show_a_time(self, zone: str, day: str, clock: str, expected: str) -> None:
        found = at_local(date.fromisoformat(day), time.fromisoformat(clock), ZoneInfo(zone))

        assert (found, found.tzinfo) == (utc(expected), UTC)


class TestNextTimeOfDay:
    @pytest.mark.parametrize(
        ("zone", "since", "clock", "weekdays", "expected"),
        [
            # Exactly then; a moment later it is tomorrow.
            ("UTC", "2026-03-02T09:30:00", "09:30", (), "2026-03-02T09:30"),
            ("UTC", "2026-03-02T09:30:00.000001", "09:30", (), "2026-03-03T09:30"),
            ("UTC", "2026-03-02T09:29:59.999999", "09:30", (), "2026-03-02T09:30"),
            # The second of March is a Monday.
            ("UTC", "2026-03-02T09:30:00", "09:30", (MONDAY,), "2026-03-02T09:30"),
            ("UTC", "2026-03-02T09:30:01", "09:30", (MONDAY,), "2026-03-09T09:30"),
            ("UTC", "2026-03-02T09:30:01", "09:30", (SATURDAY, SUNDAY), "2026-03-07T09:30"),
            ("UTC", "2026-03-07T09:30:01", "09:30", (SATURDAY, SUNDAY), "2026-03-08T09:30"),
            # It is Sunday in New York, although Monday in UTC.
            (NEW_YORK, "2026-03-02T03:00:00", "22:30", (SUNDAY,), "2026-03-02T03:30"),
            (NEW_YORK, "2026-03-08T05:00:00", "02:30", (SUNDAY,), "2026-03-08T07:00"),
            (NEW_YORK, "2026-03-08T07:00:00", "02:30", (), "2026-03-08T07:00"),
            (NEW_YORK, "2026-03-08T07:00:00.000001", "02:30", (), "2026-03-09T06:30"),
            # When clocks show the time again, its first time is over.
            (NEW_YORK, "2026-11-01T05:30:00", "01:30", (), "2026-11-01T05:30"),
            (NEW_YORK, "2026-11-01T06:30:00", "01:30", (), "2026-11-02T06:30"),
            (APIA, "2011-12-29T12:00:00", "09:30", (FRIDAY,), "2011-12-30T10:00"),
            (APIA, "2011-12-30T10:00:01", "09:30", (), "2011-12-30T19:30"),
        ],
    )
    def test_the_next_instant_at_which_clocks_show_a_time(
        self, zone: str, since: str, clock: str, weekdays: tuple[int, ...], expected: str
    ) -> None:
        found = next_time_of_day(utc(since), time.fromisoformat(clock), weekdays, ZoneInfo(zone))

        assert found == utc(expected)

    @settings(max_examples=500)
    @given(
        INSTANTS,
        CLOCKS,
        st.frozensets(st.integers(0, 6)),
        st.timezones(),
    )
    def test_it_is_within_a_week_shows_the_time_and_is_the_first_to(
        self, since: datetime, clock: time, weekdays: frozenset[int], zone: ZoneInfo
    ) -> None:
        found = next_time_of_day(since, clock, weekdays, zone)

        assert since <= found < since + timedelta(days=8)
        local = found.astimezone(zone)
        if jumped := _gap_that_ends_at(found, zone):
            assert jumped <= timedelta(days=1)
        else:
            assert local.time() == clock
            assert local.fold == 0
            assert not weekdays or local.weekday() in weekdays
        for earlier in (found - timedelta(days=days) for days in range(1, 8)):
            # On no earlier day of these would it have been time; clocks that were changed in between excepted.
            shown = earlier.astimezone(zone)
            if earlier >= since and shown.time() == clock and shown.utcoffset() == local.utcoffset():
                assert weekdays
                assert shown.weekday() not in weekdays

    @given(
        INSTANTS,
        CLOCKS,
        st.timezones(),
    )
    def test_who_asks_at_that_instant_is_there(self, since: datetime, clock: time, zone: ZoneInfo) -> None:
        found = next_time_of_day(since, clock, (), zone)

        assert next_time_of_day(found, clock, (), zone) == found


def _gap_that_ends_at(instant: datetime, zone: ZoneInfo) -> timedelta | None:
    """By how much clocks jump at this instant; None: they go on."""
    before = (instant - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
    jumped = instant.astimezone(zone).replace(tzinfo=None) - before - timedelta(seconds=1)
    return jumped if jumped > timedelta(0) else None


def wanted(*, days: float = 0, hours: float = 0, clock: str | None = None) -> AttributeDate:
    return AttributeDate(
        path=("renewal",),
        offset=timedelta(days=days, hours=hours),
        clock=time.fromisoformat(clock) if clock is not None else None,
    )


class TestAttributeDate:
    @pytest.mark.parametrize(
        ("date_wanted", "value", "zone", "expected"),
        [
            # A day begins at midnight of the subject's time zone.
            (wanted(), "2026-03-01", "UTC", "2026-03-01T00:00"),
            (wanted(), "2026-03-01", BERLIN, "2026-02-28T23:00"),
            (wanted(), "2018-11-04", SAO_PAULO, "2018-11-04T03:00"),
            (wanted(clock="09:30"), "2026-03-01", NEW_YORK, "2026-03-01T14:30"),
            (wanted(), "2024-02-29", "UTC", "2024-02-29T00:00"),
            # An instant is what it says.
            (wanted(), "2026-03-01T12:00:00Z", BERLIN, "2026-03-01T12:00"),
            (wanted(), "2026-03-01T12:00:00.25+02:00", BERLIN, "2026-03-01T10:00:00.250000"),
            # With a time, it is the day on which it falls there.
            (wanted(clock="09:30"), "2026-03-01T23:30:00Z", BERLIN, "2026-03-02T08:30"),
            # Whole days are those of the calendar: in the night to the 29th of March, clocks are put forward in Berlin.
            (wanted(days=-3, clock="09:00"), "2026-03-30", BERLIN, "2026-03-27T08:00"),
            (wanted(days=3, clock="09:00"), "2026-03-27", BERLIN, "2026-03-30T07:00"),
            (wanted(days=1), "2026-03-29", BERLIN, "2026-03-29T22:00"),
            (wanted(days=2, hours=3), "2026-03-28", BERLIN, "2026-03-30T01:00"),
            (wanted(days=-2, hours=-3), "2026-03-30", BERLIN, "2026-03-27T20:00"),
            (wanted(days=-3, clock="09:00"), "2026-03-30T12:00:00Z", BERLIN, "2026-03-27T08:00"),
            (wanted(days=-1, clock="02:30"), "2026-03-30", BERLIN, "2026-03-29T01:00"),
            # Less than a day is so long.
            (wanted(hours=-5), "2026-03-29", BERLIN, "2026-03-28T18:00"),
            (wanted(hours=5), "2026-03-29", BERLIN, "2026-03-29T04:00"),
            # From an instant, days are of 24 hours.
            (wanted(days=3), "2026-03-27T08:00:00Z", BERLIN, "2026-03-30T08:00"),
            (wanted(days=-3), "2026-03-30T07:00:00Z", BERLIN, "2026-03-27T07:00"),
            (wanted(days=-1), "1900-01-01", "UTC", "1899-12-31T00:00"),
            (wanted(days=730, clock="23:59:59"), "2200-12-31", "UTC", "2202-12-31T23:59:59"),
        ],
    )
    def test_the_instant_that_it_stands_for(
        self, date_wanted: AttributeDate, value: str, zone: str, expected: str
    ) -> None:
        assert attribute_date(date_wanted, value, ZoneInfo(zone)) == utc(expected)

    @pytest.mark.parametrize(
        "value",
        [
            None, True, 7, 20260301, 1.5, [], {}, ["2026-03-01"], "", " ", "soon", "2026-3-1", "2026-02-30",
            "2025-02-29", "2026-13-01", "2026-03-00", "2026-03-01 ", " 2026-03-01", "2026-03-01\n", "20260301",
            "2026-W09-7", "2026-060", "٢٠٢٦-٠٣-٠١", "2026-03-01T09:30", "2026-03-01T24:00:00Z", "2026-03-01 09:30:00Z",
            "1899-12-31", "2201-01-01", "0000-01-01", "0001-01-01", "9999-12-31", "1899-12-31T23:59:59Z",
            "2201-01-01T00:00:00Z",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("date_wanted", [wanted(), wanted(days=-730, clock="09:30")])
    @pytest.mark.parametrize("zone", ["UTC", APIA])
    def test_what_is_no_date_is_none(self, date_wanted: AttributeDate, value: object, zone: str) -> None:
        assert attribute_date(date_wanted, value, ZoneInfo(zone)) is None

    @given(
        st.dates(date(1900, 1, 1), date(2200, 12, 31)) | st.text(max_size=30),
        st.timedeltas(timedelta(days=-730), timedelta(days=730)),
        st.none() | CLOCKS,
        st.timezones(),
    )
    def test_every_day_has_its_instant_and_nothing_else_is_in_the_way(
        self, value: date | str, offset: timedelta, clock: time | None, zone: ZoneInfo
    ) -> None:
        found = attribute_date(AttributeDate(path=("x",), offset=offset, clock=clock), str(value), zone)

        assert found is not None or isinstance(value, str)
        if isinstance(value, date):
            about = datetime.combine(value, clock or time(), tzinfo=UTC) + offset
            assert found is not None
            assert abs(found - about) <= timedelta(days=2)


def hours(start: str, end: str, *weekdays: int) -> Hours:
    return Hours(start=time.fromisoformat(start), end=time.fromisoformat(end), weekdays=frozenset(weekdays))


class TestHours:
    @pytest.mark.parametrize(
        ("kept", "zone", "now", "end"),
        [
            (hours("21:00", "08:00"), "UTC", "2026-03-10T20:59:59.999999", None),
            (hours("21:00", "08:00"), "UTC", "2026-03-10T21:00", "2026-03-11T08:00"),
            (hours("21:00", "08:00"), "UTC", "2026-03-11T07:59:59.999999", "2026-03-11T08:00"),
            (hours("21:00", "08:00"), "UTC", "2026-03-11T08:00", None),
            # The night in which an hour is jumped over, and the one with an hour more.
            (hours("21:00", "08:00"), NEW_YORK, "2026-03-08T05:00", "2026-03-08T12:00"),
            (hours("21:00", "08:00"), NEW_YORK, "2026-11-01T05:30", "2026-11-01T13:00"),
            # They end in the hour that is jumped over: when clocks jump.
            (hours("21:00", "02:30"), NEW_YORK, "2026-03-08T06:59", "2026-03-08T07:00"),
            (hours("21:00", "02:30"), NEW_YORK, "2026-03-08T07:00", None),
            # They lie within it: there are none on that day.
            (hours("02:10", "02:50"), NEW_YORK, "2026-03-08T07:00", None),
            # They start at a time that is shown twice: the first time, and go on through the second.
            (hours("01:30", "06:00"), NEW_YORK, "2026-11-01T06:10", "2026-11-01T11:00"),
            # Days are those on which they start.
            (hours("21:00", "08:00", FRIDAY), "UTC", "2026-03-14T07:00", "2026-03-14T08:00"),
            (hours("21:00", "08:00", SATURDAY), "UTC", "2026-03-14T07:00", None),
        ],
    )
    def test_it_is_within_them_or_not(self, kept: Hours, zone: str, now: str, end: str | None) -> None:
        assert end_of(kept, utc(now), ZoneInfo(zone)) == (utc(end) if end else None)

    @pytest.mark.parametrize(
        ("kept", "zone", "now", "start"),
        [
            # From 02:00 to 03:00 is jumped over on the 28th of March: it is a week later.
            (hours("02:00", "03:00", SUNDAY), BERLIN, "2027-03-22T12:00", "2027-04-04T00:00"),
            (hours("02:00", "03:00", SUNDAY), BERLIN, "2027-03-28T01:00", "2027-04-04T00:00"),
            (hours("02:15", "02:45", SUNDAY, MONDAY), BERLIN, "2027-03-22T12:00", "2027-03-29T00:15"),
            (hours("02:10", "02:50"), NEW_YORK, "2026-03-08T07:00", "2026-03-09T06:10"),
            # Half an hour, of which nothing is left, or the second half.
            (hours("02:00", "02:30", SUNDAY), LORD_HOWE, "2026-09-28T00:00", "2026-10-10T15:00"),
            (hours("02:00", "03:00", SUNDAY), LORD_HOWE, "2026-09-28T00:00", "2026-10-03T15:30"),
            # A whole Friday is jumped over.
            (hours("09:00", "18:00", FRIDAY), APIA, "2011-12-24T12:00", "2012-01-05T19:00"),
        ],
    )
    def test_they_start_on_the_next_day_that_has_them(self, kept: Hours, zone: str, now: str, start: str) -> None:
        assert next_start_of(kept, utc(now), ZoneInfo(zone)) == utc(start)

    @settings(max_examples=150)
    @given(
        now=INSTANTS,
        start=CLOCKS,
        end=CLOCKS,
        weekdays=st.frozensets(st.integers(0, 6)),
        zone=st.timezones(),
    )
    def test_outside_they_start_within_days_and_then_it_is_within_them(
        self, now: datetime, start: time, end: time, weekdays: frozenset[int], zone: ZoneInfo
    ) -> None:
        _begin_soon(Hours(start=start, end=end, weekdays=weekdays), now, zone)

    @settings(max_examples=150)
    @given(
        jump=st.sampled_from(
            [
                (NEW_YORK, "2026-03-08T07:00"),
                (BERLIN, "2027-03-28T01:00"),
                (LORD_HOWE, "2026-10-03T15:30"),
                ("America/St_Johns", "2026-03-08T05:30"),
                ("Africa/Casablanca", "2026-03-22T02:00"),
                (SAO_PAULO, "2018-11-04T03:00"),
                (APIA, "2011-12-30T10:00"),
            ]
        ),
        before=st.timedeltas(timedelta(days=-2), timedelta(days=9)),
        back=st.timedeltas(timedelta(0), timedelta(hours=1)),
        length=st.timedeltas(timedelta(seconds=1), timedelta(hours=1)),
        days_before=st.sampled_from([(0,), (0, 1), ()]),
    )
    def test_around_a_jump_of_clocks_they_start_all_the_same(
        self, jump: tuple[str, str], before: timedelta, back: timedelta, length: timedelta, days_before: tuple[int, ...]
    ) -> None:
        place, jumps_at = ZoneInfo(jump[0]), utc(jump[1])
        first = (jumps_at.astimezone(place).replace(tzinfo=None) - back).replace(microsecond=0)
        # In most of them there is nothing else in that week.
        weekdays = frozenset((first.weekday() - days) % 7 for days in days_before)
        kept = Hours(start=first.time(), end=(first + length).time(), weekdays=weekdays)

        _begin_soon(kept, jumps_at - before, place)


def _begin_soon(kept: Hours, now: datetime, zone: ZoneInfo) -> None:
    begins = next_start_of(kept, now, zone)

    # What clocks jump over is there on the next such day.
    assert now < begins <= now + timedelta(days=15 if kept.weekdays else 2, hours=2)
    inside = end_of(kept, begins, zone)
    assert inside is not None
    assert inside > begins
    if _gap_that_ends_at(begins, zone) is None:
        local = begins.astimezone(zone)
        assert local.time() == kept.start
        assert not kept.weekdays or local.weekday() in kept.weekdays
