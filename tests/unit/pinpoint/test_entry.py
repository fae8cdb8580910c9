"""How participants come in: schedules, limits and dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.pinpoint.finding import FindingKind
from orchestrator.pinpoint.translation import Gateways, Translation, translate

_FROM_SEGMENT = {"StartCondition": {"SegmentStartCondition": {"SegmentId": "s"}}}
_SEGMENT = {"SegmentResponse": {"Id": "s", "Name": "S"}}


def _translated(**members: Any) -> Translation:
    return translate([_SEGMENT, {"JourneyResponse": {"Id": "j", "Name": "J", **members}}])


def _journey(**members: Any) -> dict[str, Any]:
    (journey,) = _translated(**members).bundle["journeys"]
    assert isinstance(journey, dict)
    return journey


def _told(kind: FindingKind, **members: Any) -> set[str]:
    found = _translated(**members).findings
    return {one.path.partition("JourneyResponse.")[2] for one in found if one.kind is kind}


@pytest.mark.parametrize(
    ("frequency", "start", "cron"),
    [
        ("PT1H", "2027-01-04T10:30:00Z", "30 * * * *"),
        ("PT12H", "2027-01-04T10:30:00Z", "30 10,22 * * *"),
        ("PT24H", "2027-01-04T10:30:00Z", "30 10 * * *"),
        ("P1D", "2027-01-04T10:30:00+02:00", "30 8 * * *"),
        ("P7D", "2027-01-04T10:30:00Z", "30 10 * * 1"),
        ("P7D", "2027-01-03T10:30:00Z", "30 10 * * 0"),
        ("PT15M", "2027-01-04T10:07:00Z", "7,22,37,52 * * * *"),
        ("PT1M", "2027-01-04T10:07:00Z", "* * * * *"),
        ("PT1H", "2027-01-04T10:30:01Z", "31 * * * *"),
        ("PT12H", "2027-01-04T23:59:30Z", "0 0,12 * * *"),
        ("PT6H", None, "0 0,6,12,18 * * *"),
    ],
)
def test_a_refresh_comes_round_by_the_clock_from_the_start_on(frequency: str, start: str | None, cron: str) -> None:
    schedule = {"Schedule": {"StartTime": start}} if start else {}

    journey = _journey(**_FROM_SEGMENT, RefreshFrequency=frequency, **schedule)

    assert journey["schedule"] == {"cron": cron, "segmentId": "s"}


@pytest.mark.parametrize(("frequency", "cron"), [("PT5H", "0 0,6,12,18 * * *"), ("P2D", "0 0 * * 4")])
def test_a_refresh_that_no_clock_says_comes_less_often_and_is_told(frequency: str, cron: str) -> None:
    assert _journey(**_FROM_SEGMENT, RefreshFrequency=frequency)["schedule"]["cron"] == cron
    assert "RefreshFrequency" in _told(FindingKind.DIFFERS, **_FROM_SEGMENT, RefreshFrequency=frequency)


def test_without_a_refresh_members_come_in_once_at_the_start() -> None:
    journey = _journey(**_FROM_SEGMENT, Schedule={"StartTime": "2027-01-04T10:30:00Z"})

    assert journey["schedule"] == {"at": "2027-01-04T10:30:00Z", "segmentId": "s"}
    assert journey["startsAt"] == "2027-01-04T10:30:00Z"


def test_without_a_start_nobody_comes_in_by_itself_and_it_is_told() -> None:
    assert "schedule" not in _journey(**_FROM_SEGMENT)
    assert "StartCondition.SegmentStartCondition" in _told(FindingKind.MISSING, **_FROM_SEGMENT)


@pytest.mark.parametrize(
    ("limits", "reentry"),
    [
        ({}, {"policy": "once"}),
        ({"EndpointReentryCap": 1}, {"policy": "once"}),
        ({"EndpointReentryCap": 0}, {"policy": "entry_key"}),
        ({"EndpointReentryCap": 0, "EndpointReentryInterval": "P7D"}, {"policy": "interval", "interval": "1w"}),
        ({"EndpointReentryCap": 5, "EndpointReentryInterval": "P7D"}, {"policy": "once"}),
    ],
)
def test_nobody_comes_in_more_often_than_before(limits: dict[str, Any], reentry: dict[str, Any]) -> None:
    assert _journey(Limits=limits)["reentry"] == reentry


def test_a_count_of_entries_that_cannot_be_kept_is_told() -> None:
    assert "Limits.EndpointReentryCap" in _told(FindingKind.DIFFERS, Limits={"EndpointReentryCap": 5})


@pytest.mark.parametrize(
    ("zone", "time", "instant"),
    [
        ("UTC-07", "2027-01-04T10:30:00", "2027-01-04T17:30:00Z"),
        ("UTC+05:45", "2027-01-04T10:30:00", "2027-01-04T04:45:00Z"),
        (None, "2027-01-04T10:30:00", "2027-01-04T10:30:00Z"),
        ("UTC-07", "2027-01-04T10:30:00+01:00", "2027-01-04T09:30:00Z"),
        (None, "2027-01-04T10:30:00.123Z", "2027-01-04T10:30:00Z"),
    ],
)
def test_times_are_read_in_the_zone_of_the_schedule(zone: str | None, time: str, instant: str) -> None:
    assert _journey(Schedule={"Timezone": zone, "EndTime": time})["endsAt"] == instant


def test_quiet_time_is_the_rest_of_the_hours_in_which_messages_go_out() -> None:
    assert _journey(QuietTime={"Start": "21:00", "End": "08:00"})["sendWindow"] == {"start": "08:00", "end": "21:00"}


def test_hours_that_are_not_in_use_are_told() -> None:
    hours = {"EMAIL": {"MONDAY": [{"StartTime": "09:00", "EndTime": "10:00"}]}}

    assert "OpenHours.EMAIL" in _told(FindingKind.NO_COUNTERPART, OpenHours=hours)
    assert "OpenHours.EMAIL" not in _told(FindingKind.NO_COUNTERPART, OpenHours=hours, SendingSchedule=True)


_WEEK = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")


def _texting(opens: str, closes: str, quiet: tuple[str, str] | None, days: Sequence[str] = _WEEK) -> dict[str, Any]:
    """Members of a journey that sends text messages in these hours."""
    rule = [{"StartTime": opens, "EndTime": closes}]
    members: dict[str, Any] = {
        "StartActivity": "text",
        "Activities": {"text": {"SMS": {"TemplateName": "t"}}},
        "SendingSchedule": True,
        "WaitForQuietTime": True,
        "OpenHours": {"SMS": dict.fromkeys(days, rule)},
    }
    return members | ({"QuietTime": {"Start": quiet[0], "End": quiet[1]}} if quiet is not None else {})


@pytest.mark.parametrize(
    ("opens", "closes", "quiet", "window", "told"),
    [
        ("06:00", "23:00", ("21:00", "08:00"), ("08:00", "21:00"), False),
        ("09:00", "17:00", ("21:00", "08:00"), ("09:00", "17:00"), False),
        ("20:00", "23:00", ("21:00", "08:00"), ("20:00", "21:00"), False),
        ("22:00", "09:00", ("21:00", "08:00"), ("08:00", "09:00"), False),
        ("08:00", "20:00", ("12:00", "13:00"), ("13:00", "20:00"), True),
        ("12:30", "12:00", ("12:00", "13:00"), ("13:00", "12:00"), False),
        ("22:00", "06:00", ("00:00", "01:00"), ("01:00", "06:00"), True),
        ("06:00", "23:00", ("21:00", "21:00"), ("06:00", "23:00"), False),
        ("06:00", "23:00", None, ("06:00", "23:00"), False),
    ],
)
def test_open_hours_of_a_channel_are_within_the_quiet_time_of_the_journey(
    opens: str, closes: str, quiet: tuple[str, str] | None, window: tuple[str, str], told: bool
) -> None:
    members = _texting(opens, closes, quiet)

    start, end = window
    assert _journey(**members)["steps"][0]["send"]["sendWindow"] == {"start": start, "end": end}
    assert ("OpenHours.SMS" in _told(FindingKind.DIFFERS, **members)) == told


def test_what_opens_after_the_midnight_of_a_day_is_open_on_the_next() -> None:
    members = _texting("22:00", "09:00", ("21:00", "08:00"), ["SUNDAY", "MONDAY"])

    window = _journey(**members)["steps"][0]["send"]["sendWindow"]

    assert window == {"start": "08:00", "end": "09:00", "weekdays": ["monday", "tuesday"]}


def test_a_channel_that_is_never_open_sends_nothing_and_it_is_told() -> None:
    members = _texting("22:00", "23:00", ("21:00", "08:00"))

    assert [next(iter(step.keys() - {"id", "next"})) for step in _journey(**members)["steps"]] == ["split", "exit"]
    assert "OpenHours.SMS" in _told(FindingKind.DIFFERS, **members)


def test_hours_that_end_when_they_start_are_told_and_taken_for_none() -> None:
    members = _texting("09:00", "17:00", None)
    members["OpenHours"]["SMS"]["SUNDAY"] = [{"StartTime": "00:00", "EndTime": "00:00"}]

    assert "sunday" not in _journey(**members)["steps"][0]["send"]["sendWindow"]["weekdays"]
    assert "OpenHours.SMS.SUNDAY[0]" in _told(FindingKind.DIFFERS, **members)
    alone = _texting("00:00", "00:00", None)
    assert "split" in _journey(**alone)["steps"][0]
    assert {"OpenHours.SMS", "OpenHours.SMS.MONDAY[0]"} <= _told(FindingKind.DIFFERS, **alone)


def test_a_running_journey_comes_as_a_draft_and_it_is_told() -> None:
    assert _journey(State="ACTIVE")["status"] == "draft"
    assert _told(FindingKind.DIFFERS, State="ACTIVE") == {"State"}
    assert _told(FindingKind.DIFFERS, State="DRAFT") == set()


def test_gateways_are_where_messages_go_for_which_there_is_no_channel() -> None:
    template = {"SMSTemplateResponse": {"TemplateName": "t", "Body": "x"}}

    (named,) = translate([template], Gateways(sms_url="https://sms.example.com/in")).bundle["communications"]
    (unnamed,) = translate([template]).bundle["communications"]

    assert named["settings"] == {"url": "https://sms.example.com/in"}
    assert unnamed["settings"] == {"url": "https://sms.gateway.invalid/"}


def _mail(**members: Any) -> Translation:
    return translate([{"EmailTemplateResponse": {"TemplateName": "t", "Subject": "S", "TextPart": "x", **members}}])


def test_markup_out_of_variables_is_escaped_in_html_and_it_is_told() -> None:
    told = [one for one in _mail(HtmlPart="<p>{{{Attributes.Bio}}}</p>").findings if one.kind is FindingKind.DIFFERS]

    assert [(one.path.rpartition(".")[2], one.value) for one in told] == [("HtmlPart", '"{{{Attributes.Bio}}}"')]
    plain = _mail(TextPart="{{{Attributes.Bio}}}", HtmlPart="<p>{{Attributes.Bio}}</p>")
    assert [one for one in plain.findings if one.kind is FindingKind.DIFFERS] == []


def test_defaults_that_are_none_are_told() -> None:
    defaults = '{"Attributes": {"A": null, "B": ["x"], "C": {}, "D": "d", "E": "e"}, "Attributes.E": "f"}'

    found = _mail(TextPart="{{Attributes.A}}{{Attributes.D}}{{Attributes.E}}", DefaultSubstitutions=defaults)

    told = {one.value for one in found.findings if one.path.endswith("DefaultSubstitutions")}
    assert told == {'{"Attributes.A":null}', '{"Attributes.B":["x"]}', '{"Attributes.C":{}}', '{"Attributes.E":"e"}'}
    (made,) = found.bundle["communications"]
    assert '"d"' in made["body"]
    assert '"f"' in made["body"]
