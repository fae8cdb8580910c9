"""ProjectService."""

from __future__ import annotations

from orchestrator.api.call import Call, tells_all
from orchestrator.api.convert.api_keys import api_key_message
from orchestrator.api.convert.places import place_of, token_after
from orchestrator.api.convert.projects import project_changes, project_message, project_settings
from orchestrator.api.expected import expected
from orchestrator.api.page_tokens import page_limit
from orchestrator.application import projects
from orchestrator.application.api_keys import ApiKeys
from orchestrator.v1 import project_service_pb2 as rpc


class ProjectHandlers:
    def __init__(self, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys

    async def ListProjects(self, request: rpc.ListProjectsRequest, call: Call) -> rpc.ListProjectsResponse:
        found, end = await projects.page(call.conn, place_of(request), page_limit(request))
        return rpc.ListProjectsResponse(
            projects=[project_message(project) for project in found], next_page_token=token_after(request, end)
        )

    @tells_all
    async def CreateProject(self, request: rpc.CreateProjectRequest, call: Call) -> rpc.CreateProjectResponse:
        sent = request.project
        made = await projects.create(
            call.conn, call.scope, self._api_keys, sent.id, sent.name, project_settings(sent.settings)
        )
        return rpc.CreateProjectResponse(
            project=project_message(made.project), api_key=api_key_message(made.key.api_key), secret=made.key.secret
        )

    async def GetProject(self, request: rpc.GetProjectRequest, call: Call) -> rpc.GetProjectResponse:
        return rpc.GetProjectResponse(
            project=project_message(await projects.get(call.conn, call.scope, request.project_id))
        )

    @tells_all
    async def UpdateProject(self, request: rpc.UpdateProjectRequest, call: Call) -> rpc.UpdateProjectResponse:
        sent = request.project
        changes = project_changes(sent, request.update_mask.paths)
        project = await projects.update(call.conn, call.scope, sent.id, changes, expected(sent))
        return rpc.UpdateProjectResponse(project=project_message(project))
