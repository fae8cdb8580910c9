"""Projects for tests to act in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.application.transactions import Transactions
from orchestrator.domain.project import ProjectSettings
from orchestrator.domain.scope import Role, Scope
from orchestrator.storage import projects

if TYPE_CHECKING:
    from asyncpg import Pool, Record

OPERATOR = Scope(project_no=0, project_id="", actor="operator", role=Role.OPERATOR)


async def make_project(api_pool: Pool[Record], project_id: str = "default", role: Role = Role.OWNER) -> Scope:
    """A new project, and somebody in it."""
    async with Transactions(api_pool).write(0) as conn:
        project = await projects.insert(
            conn, project_id=project_id, name=project_id, settings=ProjectSettings(), now=datetime.now(UTC)
        )
    assert project is not None, "another test's project"
    return Scope(project_no=project.project_no, project_id=project_id, actor="key:k1", role=role)
