"""How participants come into a journey: its start condition, schedule, refresh and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain.enrollment_job import MAX_RATE
from orchestrator.pinpoint.clock import read_duration, read_instant, read_offset, written
from orchestrator.pinpoint.conditions import EVERYONE, any_of
from orchestrator.pinpoint.events import read_events
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.reading import place, says_nothing
from orchestrator.pinpoint.segments import Segments

_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES
#: Lengths of time that a clock can say, in minutes, ascending.
_SAYABLE = (
    *(minutes for minutes in range(1, 60) if 60 % minutes == 0),
    *(60 * hours for hours in range(1, 25) if 24 % hours == 0),
    _WEEK_MINUTES,
)


@dataclass(slots=True)
class Entry:
    """Reads what a journey says of how participants come in, into members of its definition."""

    found: Discoveries
    segments: Segments
    body: Mapping[str, Any]
    path: str

    def members(self) -> dict[str, Any]:
        starts, ends = self._dates()
        condition = self.body.get("StartCondition") or {}
        at = place(self.path, "StartCondition")
        by_event, by_segment = condition.get("EventStartCondition"), condition.get("SegmentStartCondition")
        members: dict[str, Any] = {}
        if starts is not None:
            members["startsAt"] = written(starts)
        if ends is not None:
            members["endsAt"] = written(ends)
        if by_event:
            if by_segment:
                self.found.fault(at, "INVALID_VALUE", "participants come by an event or from a segment, not both")
            members |= self._by_event(by_event, place(at, "EventStartCondition"))
        elif by_segment:
            members |= self._by_segment(by_segment, place(at, "SegmentStartCondition"), starts)
        else:
            self.found.find(
                FindingKind.MISSING,
                at,
                condition,
                "nothing says who comes in: only enrollment by hand starts executions",
            )
        self._tell_unused(members)
        members["reentry"] = self._reentry()
        return members

    def _dates(self) -> tuple[datetime | None, datetime | None]:
        schedule = self.body.get("Schedule") or {}
        at = place(self.path, "Schedule")
        offset = read_offset(self.found, schedule.get("Timezone"), place(at, "Timezone"))
        if schedule.get("Timezone") and not (schedule.get("StartTime") or schedule.get("EndTime")):
            message = "there is no time that it would be the zone of"
            self.found.find(FindingKind.NO_COUNTERPART, place(at, "Timezone"), schedule["Timezone"], message)
        starts, ends = (
            read_instant(self.found, schedule[member], place(at, member), offset) if schedule.get(member) else None
            for member in ("StartTime", "EndTime")
        )
        if starts is not None and ends is not None and ends <= starts:
            self.found.fault(place(at, "EndTime"), "INVALID_VALUE", "must be later than StartTime")
        if schedule.get("Timezone") and any(_has_offset(schedule.get(name)) for name in ("StartTime", "EndTime")):
            message = "times that bring their own offset along are read by that"
            self.found.find(FindingKind.DIFFERS, place(at, "Timezone"), schedule["Timezone"], message)
        return starts, ends

    def _by_event(self, body: Mapping[str, Any], path: str) -> dict[str, Any]:
        members: dict[str, Any] = {}
        event_filter = body.get("EventFilter") or {}
        at = place(path, "EventFilter", "Dimensions")
        if says_nothing(event_filter.get("Dimensions")):
            self.found.fault(at, "REQUIRED", "names the event")
            return members
        if event_filter.get("FilterType") == "SYSTEM":
            message = "Pinpoint made these events itself: here somebody has to send them"
            self.found.find(FindingKind.DIFFERS, place(path, "EventFilter", "FilterType"), "SYSTEM", message)
        happenings, is_excluded = read_events(self.found, event_filter["Dimensions"], at)
        names = list(dict.fromkeys(happening.name for happening in happenings))
        if is_excluded:
            message = "a journey starts on events of a name, not on all others: only enrollment by hand starts any"
            value_path = place(at, "EventType", "DimensionType")
            self.found.find(FindingKind.NO_COUNTERPART, value_path, "EXCLUSIVE", message)
        elif names:
            where = any_of(happening.where for happening in happenings if happening.name == names[0])
            members["entryCondition"] = {"eventName": names[0]}
            if where != EVERYONE:
                members["entryCondition"]["predicate"] = where
            if len(names) > 1:
                message = f"a journey starts on events of one name: only on {names[0]}"
                self.found.find(FindingKind.NO_COUNTERPART, place(at, "EventType", "Values"), names[1:], message)
        if body.get("SegmentId"):
            members["audienceId"] = self.segments.audience(body["SegmentId"], place(path, "SegmentId"))
        return members

    def _by_segment(self, body: Mapping[str, Any], path: str, starts: datetime | None) -> dict[str, Any]:
        if not body.get("SegmentId"):
            self.found.fault(place(path, "SegmentId"), "REQUIRED", "names the segment")
            return {}
        segment_id = self.segments.named(body["SegmentId"], place(path, "SegmentId"))
        if self.body.get("RefreshOnSegmentUpdate") is not True:
            message = "a change of the segment is heeded as soon as it is made"
            self.found.find(FindingKind.DIFFERS, place(self.path, "RefreshOnSegmentUpdate"), False, message)
        cron = self._cron(starts)
        if cron is not None:
            return {"schedule": {"cron": cron, "segmentId": segment_id, **self._rate()}}
        if starts is not None:
            message = "members of the segment come in once, at this instant; if it is past, enroll them by hand"
            self.found.find(FindingKind.DIFFERS, place(self.path, "Schedule", "StartTime"), written(starts), message)
            return {"schedule": {"at": written(starts), "segmentId": segment_id, **self._rate()}}
        message = (
            "nothing says when members of the segment come in: after publishing, enroll them with "
            f"`orchestrator journeys enroll-all --segment {segment_id}`"
        )
        self.found.find(FindingKind.MISSING, path, body["SegmentId"], message)
        return {}

    def _cron(self, starts: datetime | None) -> str | None:
        """The minutes at which the segment is looked at again, beginning at the start."""
        at = place(self.path, "RefreshFrequency")
        asked = read_duration(self.found, self.body.get("RefreshFrequency"), at)
        if not asked:
            return None
        minutes = asked / timedelta(minutes=1)
        sayable = next((one for one in _SAYABLE if one >= minutes), None)
        value = self.body["RefreshFrequency"]
        if sayable is None:
            message = "no schedule comes round so rarely: members of the segment come in once"
            self.found.find(FindingKind.NO_COUNTERPART, at, value, message)
            return None
        if sayable != minutes:
            message = (
                f"a schedule goes by the clock: members are looked for every {written(timedelta(minutes=sayable))}"
            )
            self.found.find(FindingKind.DIFFERS, at, value, message)
        return _cron_every(sayable, starts)

    def _rate(self) -> dict[str, Any]:
        limit = (self.body.get("Limits") or {}).get("MessagesPerSecond")
        if not limit:
            return {}
        at = place(self.path, "Limits", "MessagesPerSecond")
        if limit < 0:
            self.found.fault(at, "OUT_OF_RANGE", "must be 0 or more")
        message = "so many come in each second; how many messages go out is a rate of the channel (channelRates)"
        self.found.find(FindingKind.DIFFERS, at, limit, message)
        return {"ratePerSecond": min(int(limit), MAX_RATE)}

    def _tell_unused(self, members: Mapping[str, Any]) -> None:
        """What is said of a schedule, where there is none."""
        if "schedule" in members:
            return
        limit = (self.body.get("Limits") or {}).get("MessagesPerSecond")
        if limit:
            message = "how many messages go out each second is a rate of the channel: channelRates in the settings"
            self.found.find(FindingKind.NO_COUNTERPART, place(self.path, "Limits", "MessagesPerSecond"), limit, message)
        for member in ("RefreshFrequency", "RefreshOnSegmentUpdate"):
            if self.body.get(member):
                message = "no segment is enrolled by this journey"
                self.found.find(FindingKind.NO_COUNTERPART, place(self.path, member), self.body[member], message)

    def _reentry(self) -> dict[str, Any]:
        limits = self.body.get("Limits") or {}
        at = place(self.path, "Limits")
        cap = limits.get("EndpointReentryCap")
        interval_at = place(at, "EndpointReentryInterval")
        interval = read_duration(self.found, limits.get("EndpointReentryInterval"), interval_at)
        if cap == 0 and interval:
            return {"policy": "interval", "interval": written(interval)}
        if interval:
            message = "nobody comes in a second time"
            self.found.find(FindingKind.NO_COUNTERPART, interval_at, limits["EndpointReentryInterval"], message)
        if cap == 0:
            return {"policy": "entry_key"}
        if cap is not None and cap != 1:
            message = "entries are not counted: a subject comes in once (or, with another `reentry`, without end)"
            self.found.find(FindingKind.DIFFERS, place(at, "EndpointReentryCap"), cap, message)
        return {"policy": "once"}


def _cron_every(minutes: int, starts: datetime | None) -> str:
    begin = datetime(2026, 1, 1, tzinfo=UTC) if starts is None else starts.astimezone(UTC)
    if begin.second:
        begin += timedelta(minutes=1)
    if minutes < 60:
        return f"{_grid(begin.minute, minutes, 60)} * * * *"
    if minutes <= _DAY_MINUTES:
        return f"{begin.minute} {_grid(begin.hour, minutes // 60, 24)} * * *"
    return f"{begin.minute} {begin.hour} * * {begin.isoweekday() % 7}"


def _grid(first: int, step: int, whole: int) -> str:
    return "*" if step == 1 else ",".join(str(one) for one in range(first % step, whole, step))


def _has_offset(value: str | None) -> bool:
    return value is not None and (value[-1:] in ("Z", "z") or value[-6:-5] in ("+", "-"))
