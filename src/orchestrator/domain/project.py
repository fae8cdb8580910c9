"""Projects, the tenants: every other resource belongs to one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypedDict

from orchestrator.domain.channel_rate import ChannelRate
from orchestrator.domain.durations import format_duration, parse_duration
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.gates import FrequencyCap
from orchestrator.domain.holdout import Holdout
from orchestrator.domain.hours import QuietHours
from orchestrator.domain.sending_forms import (
    caps_document,
    channel_rates_document,
    holdout_document,
    quiet_hours_document,
    read_caps,
    read_channel_rates,
    read_holdout,
    read_quiet_hours,
)
from orchestrator.domain.shown_fields import shown_fields_faults
from orchestrator.domain.subject import is_time_zone
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.paths import split_path
from orchestrator.predicates.reveal import Reveal, reveal_of
from orchestrator.predicates.windows import MAX_DAYS

MAX_PROJECT_ID_LENGTH = 63
TIME_ZONE = "UTC"
GOAL_WINDOW = timedelta(days=7)
MAX_GOAL_WINDOW = timedelta(days=365)
MAX_MAX_JOURNEYS = 1_000_000
MIN_EVENT_RETENTION = timedelta(days=1)
MAX_EVENT_RETENTION = timedelta(days=MAX_DAYS)

#: Made with the instance; its workflow ids carry no project.
DEFAULT_PROJECT_ID = "default"

# Project ids stand in workflow ids, in subject refs and in host names people make of them.
_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")

#: Who acts beyond any project: a project of that name would read like them in logs and in workflow ids.
RESERVED_PROJECT_IDS = frozenset({"instance", "internal", "operator", "orchestrator", "runtime", "system"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """What applies to a whole project unless something in it says otherwise."""

    # where nothing is known of a subject's own: an IANA name
    time_zone: str = TIME_ZONE
    # for how long after the trigger a goal event counts, in journeys that do not say
    goal_window: timedelta = GOAL_WINDOW
    # published journeys that are not archived; None: no limit
    max_journeys: int | None = None
    # for how long after they occurred events are kept; None: for ever
    event_retention: timedelta | None = None
    # how many messages one subject gets at most, whichever journeys they come from
    frequency_caps: tuple[FrequencyCap, ...] = ()
    # when nothing goes out, by each subject's clock
    quiet_hours: QuietHours | None = None
    # whom no journey sends anything
    global_holdout: Holdout | None = None
    # how fast messages go out by channels whose provider takes only so many
    channel_rates: tuple[ChannelRate, ...] = ()
    # the paths of fields that are not personal; the values of all others are masked where somebody is told why
    shown_fields: tuple[str, ...] = ()
    # what is wrong with settings that somebody chose and that cannot be read; such settings are never stored
    unread: tuple[Fault, ...] = ()
    # stored by a newer release while this one is still running: kept as it is
    of_newer_releases: Mapping[str, Any] = field(default_factory=dict)

    def channel_rate(self, channel: str) -> ChannelRate | None:
        """None: as fast as workers are."""
        return next((rate for rate in self.channel_rates if rate.channel == channel), None)

    @property
    def reveal(self) -> Reveal:
        """What may be shown of a subject that is stored."""
        return reveal_of(map(split_path, self.shown_fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`project_no` never leaves the database and the code; `revision` and `updated_at` are raised by every change."""

    project_no: int
    project_id: str
    name: str
    settings: ProjectSettings = field(default_factory=ProjectSettings)
    revision: int
    created_at: datetime
    updated_at: datetime


def project_id_fault(chosen: str, path: str) -> Fault | None:
    """What is wrong with the id of a new project; None when nothing is."""
    if not chosen:
        return Fault(path=path, reason="REQUIRED", message="an id is required")
    if len(chosen) > MAX_PROJECT_ID_LENGTH:
        return Fault(path=path, reason="TOO_LONG", message=f"at most {MAX_PROJECT_ID_LENGTH} characters")
    if _ID.fullmatch(chosen) is None:
        message = "a project id consists of a-z 0-9 -, begins with a letter and does not end with -"
        return Fault(path=path, reason="INVALID_ID", message=message)
    if chosen in RESERVED_PROJECT_IDS:
        return Fault(path=path, reason="INVALID_ID", message=f"{chosen} is reserved")
    return None


def settings_faults(settings: ProjectSettings, path: str) -> list[Fault]:
    """Everything that is wrong with settings somebody chose."""
    faults = []
    if not is_time_zone(settings.time_zone):
        message = "a time zone is an IANA name, such as Europe/Berlin"
        faults.append(Fault(path=under(path, "timeZone"), reason="INVALID_VALUE", message=message))
    if not timedelta(seconds=1) <= settings.goal_window <= MAX_GOAL_WINDOW:
        at = under(path, "goalWindow")
        faults.append(Fault(path=at, reason="OUT_OF_RANGE", message=f"must be 1s to {MAX_GOAL_WINDOW.days}d"))
    if settings.max_journeys is not None and not 0 <= settings.max_journeys <= MAX_MAX_JOURNEYS:
        at = under(path, "maxJourneys")
        faults.append(Fault(path=at, reason="OUT_OF_RANGE", message=f"must be 0 to {MAX_MAX_JOURNEYS}"))
    kept = settings.event_retention
    if kept is not None and not MIN_EVENT_RETENTION <= kept <= MAX_EVENT_RETENTION:
        at = under(path, "eventRetention")
        message = f"must be {MIN_EVENT_RETENTION.days}d to {MAX_EVENT_RETENTION.days}d"
        faults.append(Fault(path=at, reason="OUT_OF_RANGE", message=message))
    faults += [replace(fault, path=under(path, fault.path)) for fault in settings.unread]
    faults += shown_fields_faults(settings.shown_fields, under(path, "shownFields"))
    return faults


def settings_document(settings: ProjectSettings) -> dict[str, Any]:
    """The settings as they are stored."""
    return {
        **settings.of_newer_releases,
        "timeZone": settings.time_zone,
        "goalWindow": format_duration(settings.goal_window),
        "maxJourneys": settings.max_journeys,
        "eventRetention": format_duration(settings.event_retention) if settings.event_retention is not None else None,
        "frequencyCaps": caps_document(settings.frequency_caps),
        "quietHours": quiet_hours_document(settings.quiet_hours) if settings.quiet_hours is not None else None,
        "globalHoldout": holdout_document(settings.global_holdout) if settings.global_holdout is not None else None,
        "channelRates": channel_rates_document(settings.channel_rates),
        "shownFields": list(settings.shown_fields),
    }


class Sending(TypedDict):
    """The settings that hold off sends, as arguments of ProjectSettings."""

    frequency_caps: tuple[FrequencyCap, ...]
    quiet_hours: QuietHours | None
    channel_rates: tuple[ChannelRate, ...]
    global_holdout: Holdout | None
    unread: tuple[Fault, ...]


def read_sending(document: Mapping[str, Any]) -> Sending:
    """Of these settings those that hold off sends. `unread` has what is wrong with them, by its path within them."""
    form = FormReader()
    return Sending(
        frequency_caps=read_caps(form, document.get("frequencyCaps"), "frequencyCaps"),
        quiet_hours=read_quiet_hours(form, document.get("quietHours"), "quietHours"),
        global_holdout=read_holdout(form, document.get("globalHoldout"), "globalHoldout"),
        channel_rates=read_channel_rates(form, document.get("channelRates"), "channelRates"),
        unread=tuple(form.faults),
    )


_KNOWN = frozenset(
    (
        "timeZone",
        "goalWindow",
        "maxJourneys",
        "eventRetention",
        "frequencyCaps",
        "quietHours",
        "globalHoldout",
        "channelRates",
        "shownFields",
    )
)


def stored_settings(document: Mapping[str, Any]) -> ProjectSettings:
    """Read settings that were checked when they were written."""
    default = ProjectSettings()
    window, kept = document.get("goalWindow"), document.get("eventRetention")
    return ProjectSettings(
        time_zone=document.get("timeZone", default.time_zone),
        goal_window=parse_duration(window) if window is not None else default.goal_window,
        max_journeys=document.get("maxJourneys", default.max_journeys),
        event_retention=parse_duration(kept, longest=MAX_EVENT_RETENTION) if kept is not None else None,
        **read_sending(document),
        shown_fields=tuple(document.get("shownFields", ())),
        of_newer_releases={name: value for name, value in document.items() if name not in _KNOWN},
    )
