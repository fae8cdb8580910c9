"""Projects as messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.api.convert.categories import category_number
from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.api.json_encode import encode
from orchestrator.domain.channel_rate import ChannelRate
from orchestrator.domain.etag import etag_of
from orchestrator.domain.gates import ANY, FrequencyCap
from orchestrator.domain.holdout import Holdout
from orchestrator.domain.hours import QuietHours
from orchestrator.domain.project import GOAL_WINDOW, TIME_ZONE, Project, ProjectSettings, read_sending
from orchestrator.domain.sending_forms import quiet_hours_document
from orchestrator.v1 import project_pb2 as pb

_SETTINGS = "settings."


def project_settings(message: pb.ProjectSettings) -> ProjectSettings:
    return ProjectSettings(
        time_zone=message.time_zone or TIME_ZONE,
        goal_window=message.goal_window.ToTimedelta() if message.HasField("goal_window") else GOAL_WINDOW,
        max_journeys=message.max_journeys if message.HasField("max_journeys") else None,
        event_retention=message.event_retention.ToTimedelta() if message.HasField("event_retention") else None,
        **read_sending(encode(message)),
        shown_fields=tuple(message.shown_fields),
    )


def settings_message(settings: ProjectSettings) -> pb.ProjectSettings:
    return pb.ProjectSettings(
        time_zone=settings.time_zone,
        goal_window=to_duration(settings.goal_window),
        max_journeys=settings.max_journeys,
        event_retention=to_duration(kept) if (kept := settings.event_retention) is not None else None,
        frequency_caps=[_cap(cap) for cap in settings.frequency_caps],
        quiet_hours=_quiet_hours(settings.quiet_hours),
        global_holdout=_holdout(settings.global_holdout),
        channel_rates=[_channel_rate(rate) for rate in settings.channel_rates],
        shown_fields=settings.shown_fields,
    )


def project_message(project: Project) -> pb.Project:
    return pb.Project(
        id=project.project_id,
        name=project.name,
        settings=settings_message(project.settings),
        create_time=to_timestamp(project.created_at),
        update_time=to_timestamp(project.updated_at),
        etag=etag_of(project.revision, project.updated_at),
    )


def project_changes(message: pb.Project, paths: Iterable[str]) -> dict[str, object]:
    """What an update of these paths sets."""
    settings = project_settings(message.settings)
    changes: dict[str, object] = {}
    for path in paths:
        if path == "name":
            changes["name"] = message.name
        elif path == "settings":
            changes |= {field: getattr(settings, field) for field in pb.ProjectSettings.DESCRIPTOR.fields_by_name}
        else:
            field = path.removeprefix(_SETTINGS)
            changes[field] = getattr(settings, field)
    names = {descriptor.json_name for descriptor in pb.ProjectSettings.DESCRIPTOR.fields if descriptor.name in changes}
    if unread := tuple(fault for fault in settings.unread if re.split(r"[.\[]", fault.path)[0] in names):
        changes["unread"] = unread
    return changes


def _cap(cap: FrequencyCap) -> pb.FrequencyCap:
    return pb.FrequencyCap(
        channel="" if cap.channel == ANY else cap.channel,
        category=category_number(cap.category),
        limit=cap.limit,
        window=to_duration(cap.window),
    )


def _channel_rate(rate: ChannelRate) -> pb.ChannelRate:
    return pb.ChannelRate(channel=rate.channel, rate_per_second=rate.per_second, burst=rate.burst)


def _quiet_hours(quiet: QuietHours | None) -> pb.QuietHours | None:
    if quiet is None:
        return None
    return pb.QuietHours(**quiet_hours_document(quiet))


def _holdout(holdout: Holdout | None) -> pb.Holdout | None:
    return pb.Holdout(percent=holdout.percent, salt=holdout.salt or "") if holdout is not None else None
