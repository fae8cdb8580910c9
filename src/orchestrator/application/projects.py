"""Projects: made by the operator, changed by their owners. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import event_retention
from orchestrator.application.api_keys import ApiKeys, NewKey
from orchestrator.domain.audit import PROJECT_CREATED, PROJECT_UPDATED
from orchestrator.domain.conditions import ATTRIBUTES, GATES
from orchestrator.domain.etag import Expected
from orchestrator.domain.ids import name_faults, new_id
from orchestrator.domain.project import Project, ProjectSettings, project_id_fault, settings_faults
from orchestrator.domain.refusals import AlreadyExists, InvalidArgument, NotFound
from orchestrator.domain.resource import Place, member_of
from orchestrator.domain.scope import INSTANCE, Role, Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import audit, clock, projects, topic_pokes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """A project that was just made, and the first key of its owner."""

    project: Project
    key: NewKey


async def create(
    conn: Connection[Record], scope: Scope, api_keys: ApiKeys, project_id: str, name: str, settings: ProjectSettings
) -> NewProject:
    """Make a project, under `project_id` if that is not empty, and its first owner key. The scope is the instance's.

    Raises InvalidArgument with all faults, and AlreadyExists.
    """
    chosen = project_id_fault(project_id, "id") if project_id else None
    faults = [chosen] if chosen else []
    faults += _faults(name, settings)
    if faults:
        raise InvalidArgument(faults)
    now = await clock.now(conn)
    project = await projects.insert(conn, project_id=project_id or new_id("prj"), name=name, settings=settings, now=now)
    if project is None:
        raise AlreadyExists("ALREADY_EXISTS", f"there is already a project {project_id}", projectId=project_id)
    key = await api_keys.create_first(conn, scope, project.project_no)
    await audit.append(
        conn,
        project_no=INSTANCE,
        at=now,
        actor=scope.actor,
        action=PROJECT_CREATED,
        resource_id=project.project_id,
    )
    return NewProject(project=project, key=key)


async def get(conn: Connection[Record], scope: Scope, project_id: str) -> Project:
    """The operator gets any project, others their own. Raises NotFound."""
    if scope.role is not Role.OPERATOR and project_id != scope.project_id:
        raise not_found(project_id)
    project = await projects.find(conn, project_id)
    if project is None:
        raise not_found(project_id)
    return project


async def scope_in(conn: Connection[Record], scope: Scope, project_id: str) -> Scope:
    """The scope of a caller of the instance in a project that he names. The connection stands in project 0.

    Raises NotFound.
    """
    project = await projects.find(conn, project_id)
    if project is None:
        raise not_found(project_id)
    return replace(scope, project_no=project.project_no, project_id=project.project_id)


async def page(conn: Connection[Record], after: Place | None, limit: int) -> tuple[list[Project], Place | None]:
    """All projects of the instance, newest first, and where the page ended. The connection stands in project 0."""
    return await projects.page(conn, after, limit)


async def update(
    conn: Connection[Record], scope: Scope, project_id: str, changes: Mapping[str, Any], expected: Expected
) -> Project:
    """Set the name, or fields of the settings, of the scope's project.

    Raises NotFound, Conflict, InvalidArgument, and FailedPrecondition EVENT_RETENTION_TOO_SHORT.
    """
    if project_id != scope.project_id:
        raise not_found(project_id)
    await projects.touch_definitions(conn, scope.project_no)
    before = await projects.get(conn, scope.project_no)
    expected.require(revision=before.revision, updated_at=before.updated_at, projectId=project_id)
    name = changes.get("name", before.name)
    settings = replace(before.settings, **{field: value for field, value in changes.items() if field != "name"})
    if (name, settings) == (before.name, before.settings):
        return before
    if faults := _faults(name, settings):
        raise InvalidArgument(faults)
    kept, kept_before = settings.event_retention, before.settings.event_retention
    if kept is not None and (kept_before is None or kept < kept_before):
        await event_retention.require_room(conn, scope.project_no, kept, "settings.eventRetention")
    now = await clock.now(conn)
    await projects.update(conn, before, name=name, settings=settings, now=now)
    if settings.time_zone != before.settings.time_zone:
        # Whose own is not known waits by this one, and that is looked for where attributes are.
        await topic_pokes.request(conn, scope.project_no, [ATTRIBUTES], now)
    elif (settings.quiet_hours, settings.frequency_caps) != (
        before.settings.quiet_hours,
        before.settings.frequency_caps,
    ):
        await topic_pokes.request(conn, scope.project_no, [GATES], now)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=PROJECT_UPDATED,
        resource_id=project_id,
        metadata={"fields": ",".join(sorted(member_of(PROJECT_UPDATED.resource_kind, name) for name in changes))},
    )
    return await projects.get(conn, scope.project_no)


def _faults(name: str, settings: ProjectSettings) -> list[Fault]:
    return name_faults(name, "name") + settings_faults(settings, "settings")


def not_found(project_id: str) -> NotFound:
    return NotFound("PROJECT_NOT_FOUND", f"there is no project {project_id}", projectId=project_id)
