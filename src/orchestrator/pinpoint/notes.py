"""What becomes of members that are not translated, and what follows from it.

Every member of `shapes.json` is either here or translated by one of the other modules; a test sees to it that what is
not here changes what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.pinpoint.finding import FindingKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """`message` says what follows for whoever relied on the member."""

    kind: FindingKind
    message: str


def _records(structure: str, *members: str) -> Iterator[tuple[str, Note]]:
    note = Note(kind=FindingKind.RECORD, message="Pinpoint's own record; nothing here depends on it")
    for member in members:
        yield f"{structure}.{member}", note


def _lost(**messages: str) -> Iterator[tuple[str, Note]]:
    """By `Structure__Member`."""
    for name, message in messages.items():
        yield name.replace("__", "."), Note(kind=FindingKind.NO_COUNTERPART, message=message)


_CUSTOM = "Pinpoint exports no templates of custom messages: Data is what is sent"
_RECOMMENDER = "there are no recommender models: what they would fill in stays empty"
_DESCRIPTION = "a communication has a name and no description"
_PLATFORM = "there is one text for all devices, the one of Default: this platform's own is not used"
_ACTION = "what a tap on the message does is up to whoever sends it: the webhook gets title and body only"

NOTES: Mapping[str, Note] = dict(
    [
        *_records("Journey", "ApplicationId", "CreationDate", "LastModifiedDate", "tags"),
        *_records("Segment", "ApplicationId", "Arn", "CreationDate", "LastModifiedDate", "Version", "tags"),
        *_records("EmailTemplate", "Arn", "CreationDate", "LastModifiedDate", "TemplateType", "tags"),
        *_records("SMSTemplate", "Arn", "CreationDate", "LastModifiedDate", "TemplateType", "tags"),
        *_records("PushNotificationTemplate", "Arn", "CreationDate", "LastModifiedDate", "TemplateType", "tags"),
        *_lost(
            Journey__LocalTime="the journey starts and ends for everybody at the same instant",
            Journey__JourneyChannelSettings="there are no calls through Amazon Connect",
            Journey__TimezoneEstimationMethods=(
                "time zones are not estimated: a subject without one is taken to be in the project's"
            ),
            Journey__ClosedDays=(
                "there are no days of the calendar on which nothing is sent: pause sends on them "
                "(`orchestrator sends pause`)"
            ),
            CustomMessageActivity__EndpointTypes=(
                "a subject has one address on a channel, and no types of endpoints to choose from"
            ),
            CustomMessageActivity__TemplateName=_CUSTOM,
            CustomMessageActivity__TemplateVersion=_CUSTOM,
            JourneyLimits__DailyCap=(
                "caps hold for all journeys of a project together: set frequencyCaps in its settings, window 1d"
            ),
            JourneyLimits__TotalCap=(
                "no cap counts the messages of one journey: a subject gets what steps on its way send, at each entry"
            ),
            JourneyLimits__TimeframeCap=(
                "this cap counts the messages of all journeys: it is a setting of the project, frequencyCaps, "
                "with limit Cap and a window of Days"
            ),
            EmailTemplate__RecommenderId=_RECOMMENDER,
            EmailTemplate__TemplateDescription=_DESCRIPTION,
            SMSTemplate__RecommenderId=_RECOMMENDER,
            SMSTemplate__TemplateDescription=_DESCRIPTION,
            PushNotificationTemplate__RecommenderId=_RECOMMENDER,
            PushNotificationTemplate__TemplateDescription=_DESCRIPTION,
            PushNotificationTemplate__ADM=_PLATFORM,
            PushNotificationTemplate__APNS=_PLATFORM,
            PushNotificationTemplate__Baidu=_PLATFORM,
            PushNotificationTemplate__GCM=_PLATFORM,
            DefaultPushNotificationTemplate__Action=_ACTION,
            DefaultPushNotificationTemplate__Sound=_ACTION,
            DefaultPushNotificationTemplate__Url=_ACTION,
        ),
        (
            "Segment.ImportDefinition",
            Note(
                kind=FindingKind.MISSING,
                message=(
                    "who is in the list stands in the imported file, not in the export: add them with "
                    "`orchestrator segments add`"
                ),
            ),
        ),
    ]
)

_CAMPAIGN = "campaigns are not translated: write a journey with a schedule, or enroll the segment by a job"
_PEOPLE = "people are no definitions: load them as subjects, with the attributes that docs/pinpoint.md names"
_SETTINGS = "limits and quiet time of an application are settings of the project: frequencyCaps, quietHours"

#: Structures that have no counterpart as a whole: what stands in them is told once.
LOST_WHOLE: Mapping[str, str] = {
    "VoiceTemplateResponse": "there is no channel for voice messages",
    "VoiceTemplateRequest": "there is no channel for voice messages",
    "InAppTemplateResponse": "there is no channel for messages within an app",
    "InAppTemplateRequest": "there is no channel for messages within an app",
    "CampaignResponse": _CAMPAIGN,
    "CampaignsResponse": _CAMPAIGN,
    "EndpointResponse": _PEOPLE,
    "EndpointsResponse": _PEOPLE,
    "ApplicationSettingsResource": _SETTINGS,
    "ApplicationResponse": "the project into which the bundle is imported takes its place",
    "ApplicationsResponse": "the project into which the bundle is imported takes its place",
}
