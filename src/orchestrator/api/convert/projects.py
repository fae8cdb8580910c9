"""Projects as messages."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.domain.etag import etag_of
from orchestrator.domain.project import GOAL_WINDOW, TIME_ZONE, Project, ProjectSettings
from orchestrator.v1 import project_pb2 as pb

_SETTINGS = "settings."


def project_settings(message: pb.ProjectSettings) -> ProjectSettings:
    return ProjectSettings(
        time_zone=message.time_zone or TIME_ZONE,
        goal_window=message.goal_window.ToTimedelta() if message.HasField("goal_window") else GOAL_WINDOW,
        max_journeys=message.max_journeys if message.HasField("max_journeys") else None,
        event_retention=message.event_retention.ToTimedelta() if message.HasField("event_retention") else None,
    )


def project_message(project: Project) -> pb.Project:
    return pb.Project(
        id=project.project_id,
        name=project.name,
        settings=pb.ProjectSettings(
            time_zone=project.settings.time_zone,
            goal_window=to_duration(project.settings.goal_window),
            max_journeys=project.settings.max_journeys,
            event_retention=to_duration(kept) if (kept := project.settings.event_retention) is not None else None,
        ),
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
    return changes
