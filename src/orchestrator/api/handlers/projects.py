"""ProjectService."""

from __future__ import annotations

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.api_keys import api_key_message
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.times import to_duration, to_timestamp
from orchestrator.api.expected import expected
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import projects
from orchestrator.application.api_keys import ApiKeys
from orchestrator.domain.etag import etag_of
from orchestrator.domain.project import GOAL_WINDOW, TIME_ZONE, Project, ProjectSettings
from orchestrator.v1 import project_pb2 as pb
from orchestrator.v1 import project_service_pb2 as rpc

_SETTINGS = "settings."


class ProjectHandlers:
    def __init__(self, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys

    async def ListProjects(self, request: rpc.ListProjectsRequest, call: Call) -> rpc.ListProjectsResponse:
        found, end = await projects.page(call.conn, place_of(request), page_limit(request))
        return rpc.ListProjectsResponse(
            projects=[_message(project) for project in found], next_page_token=token_after(request, end)
        )

    @tells_all
    async def CreateProject(self, request: rpc.CreateProjectRequest, call: Call) -> rpc.CreateProjectResponse:
        sent = request.project
        made = await projects.create(
            call.conn, call.scope, self._api_keys, sent.id, sent.name, _settings(sent.settings)
        )
        return rpc.CreateProjectResponse(
            project=_message(made.project), api_key=api_key_message(made.key.api_key), secret=made.key.secret
        )

    async def GetProject(self, request: rpc.GetProjectRequest, call: Call) -> rpc.GetProjectResponse:
        return rpc.GetProjectResponse(project=_message(await projects.get(call.conn, call.scope, request.project_id)))

    @tells_all
    async def UpdateProject(self, request: rpc.UpdateProjectRequest, call: Call) -> rpc.UpdateProjectResponse:
        sent = request.project
        settings = _settings(sent.settings)
        changes: dict[str, object] = {}
        for path in request.update_mask.paths:
            if path == "name":
                changes["name"] = sent.name
            elif path == "settings":
                changes |= {field: getattr(settings, field) for field in pb.ProjectSettings.DESCRIPTOR.fields_by_name}
            else:
                field = path.removeprefix(_SETTINGS)
                changes[field] = getattr(settings, field)
        project = await projects.update(call.conn, call.scope, sent.id, changes, expected(sent))
        return rpc.UpdateProjectResponse(project=_message(project))


def _settings(message: pb.ProjectSettings) -> ProjectSettings:
    return ProjectSettings(
        time_zone=message.time_zone or TIME_ZONE,
        goal_window=message.goal_window.ToTimedelta() if message.HasField("goal_window") else GOAL_WINDOW,
        max_journeys=message.max_journeys if message.HasField("max_journeys") else None,
    )


def _message(project: Project) -> pb.Project:
    return pb.Project(
        id=project.project_id,
        name=project.name,
        settings=pb.ProjectSettings(
            time_zone=project.settings.time_zone,
            goal_window=to_duration(project.settings.goal_window),
            max_journeys=project.settings.max_journeys,
        ),
        create_time=to_timestamp(project.created_at),
        update_time=to_timestamp(project.updated_at),
        etag=etag_of(project.revision, project.updated_at),
    )
