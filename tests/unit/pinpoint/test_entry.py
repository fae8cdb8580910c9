"""How participants come in: schedules, limits and dates."""

from __future__ import annotations

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
