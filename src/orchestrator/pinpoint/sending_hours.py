"""Quiet time and open hours as hours in which messages go out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.condition_forms import WEEKDAYS
from orchestrator.pinpoint.clock import read_clock
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.reading import place, placed, says_nothing

#: Channels whose activities send something here.
_SENDING = ("EMAIL", "SMS", "PUSH", "CUSTOM")
_NO_STEP = "no step of the journey sends by this channel here"
_DAY = 24 * 60


@dataclass(slots=True)
class SendingHours:
    """`journey`: the hours of all sends that have none of their own; `channels`: those of activities of a kind, within
    the journey's, since here a step's hours take the place of its journey's. None: they never send.
    """

    journey: dict[str, Any] | None = None
    channels: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    #: Whether messages outside of them wait, or are dropped.
    waits: bool = False

    def never_sends(self, activity: str) -> bool:
        return activity in self.channels and self.channels[activity] is None

    def of_send(self, activity: str) -> dict[str, Any]:
        """What a send step says of hours; it is none of an activity that never sends."""
        members: dict[str, Any] = {}
        if activity in self.channels:
            members["sendWindow"] = self.channels[activity]
        if not self.waits and (self.journey is not None or members):
            members["onBlocked"] = "skip"
        return members


def read_sending_hours(found: Discoveries, body: Mapping[str, Any], path: str) -> SendingHours:
    hours = SendingHours(waits=body.get("WaitForQuietTime") is True)
    quiet = body.get("QuietTime")
    if quiet:
        hours.journey = _without_quiet(found, quiet, place(path, "QuietTime"))
    opened = body.get("OpenHours") or {}
    for channel in (*_SENDING, "VOICE"):
        days = opened.get(channel) or {}
        at = place(path, "OpenHours", channel)
        if says_nothing(days):
            continue
        if body.get("SendingSchedule") is not True:
            message = "without SendingSchedule these hours are not in use: nothing was made of them"
            found.find(FindingKind.NO_COUNTERPART, at, days, message)
        elif channel not in _SENDING:
            found.find(FindingKind.NO_COUNTERPART, at, days, _NO_STEP)
        elif any(rules for _, rules in placed(days, at)):
            window = _window(found, days, at)
            hours.channels[channel] = _within(found, window, hours.journey, at) if window is not None else None
            if hours.channels[channel] is None:
                message = "no hour is left in which these messages go out: participants go on at once, without them"
                found.find(FindingKind.DIFFERS, at, days, message)
    return hours


def _without_quiet(found: Discoveries, quiet: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    start = read_clock(found, quiet.get("Start"), place(path, "Start"))
    end = read_clock(found, quiet.get("End"), place(path, "End"))
    if start is None or end is None:
        return None
    if start == end:
        found.find(FindingKind.DIFFERS, path, quiet, "quiet time that ends when it starts is none")
        return None
    message = "it holds for subjects without a time zone, too: by the project's"
    found.find(FindingKind.DIFFERS, path, quiet, message)
    return {"start": end, "end": start}


def _window(found: Discoveries, days: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """One window: the hours that most days have. What else there is would be further ones, and is told."""
    by_hours: dict[tuple[str, str], list[str]] = {}
    for at, rules in placed(days, path):
        for rule_path, rule in placed(rules or [], at):
            start = read_clock(found, rule.get("StartTime"), place(rule_path, "StartTime"))
            end = read_clock(found, rule.get("EndTime"), place(rule_path, "EndTime"))
            if start is not None and start == end:
                message = "hours that end when they start are none: nothing is sent because of them"
                found.find(FindingKind.DIFFERS, rule_path, rule, message)
            elif start is not None and end is not None:
                by_hours.setdefault((start, end), []).append(rule_path)
    if not by_hours:
        return None
    most = max(by_hours, key=lambda hours: len(by_hours[hours]))
    for (start, end), paths in by_hours.items():
        for rule_path in paths if (start, end) != most else []:
            message = (
                f"a step sends in one window of the day, here {most[0]} to {most[1]}: nothing is sent in these hours"
            )
            found.find(FindingKind.DIFFERS, rule_path, {"StartTime": start, "EndTime": end}, message)
    at_all = {path_of_day.rsplit("[", 1)[0].rsplit(".", 1)[1].lower() for path_of_day in by_hours[most]}
    weekdays = [day for day in WEEKDAYS if day in at_all]
    window: dict[str, Any] = {"start": most[0], "end": most[1]}
    return window if len(weekdays) == len(WEEKDAYS) else {**window, "weekdays": weekdays}


def _within(
    found: Discoveries, window: dict[str, Any], journey: dict[str, Any] | None, path: str
) -> dict[str, Any] | None:
    """The hours that are in both, None where there are none; of several stretches the longest, and others are told."""
    if journey is None:
        return window
    stretches = sorted(_stretches(window, journey), key=lambda one: one[0] - one[1])
    if not stretches:
        return None
    kept = _written(stretches[0], window)
    for other in stretches[1:]:
        message = (
            f"a step sends in one window of the day, and the journey's quiet time leaves two of this one, here "
            f"{kept['start']} to {kept['end']}: nothing is sent in these hours"
        )
        found.find(FindingKind.DIFFERS, path, _written(other, window), message)
    return kept


def _stretches(window: Mapping[str, Any], journey: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """From when to when both are open, in minutes since the midnight before the window opens."""
    opens, closes = _minutes(window)
    begins, ends = _minutes(journey)
    for day in (-_DAY, 0, _DAY):
        stretch = max(opens, begins + day), min(closes, ends + day)
        if stretch[0] < stretch[1]:
            yield stretch


def _minutes(window: Mapping[str, Any]) -> tuple[int, int]:
    start, end = (int(window[name][:2]) * 60 + int(window[name][3:]) for name in ("start", "end"))
    return start, end if end > start else end + _DAY


def _written(stretch: tuple[int, int], window: Mapping[str, Any]) -> dict[str, Any]:
    """A stretch of a window as one of its own; what starts after midnight is the day after."""
    start, end = (f"{at // 60 % 24:02}:{at % 60:02}" for at in stretch)
    made: dict[str, Any] = {"start": start, "end": end}
    if "weekdays" in window:
        later = stretch[0] // _DAY
        days = {WEEKDAYS[(WEEKDAYS.index(day) + later) % len(WEEKDAYS)] for day in window["weekdays"]}
        made["weekdays"] = [day for day in WEEKDAYS if day in days]
    return made
