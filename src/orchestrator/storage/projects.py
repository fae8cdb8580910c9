"""Projects in Postgres. Callers own the connection and the transaction.

Row-level security shows a project itself alone, and the instance (project 0) all of them.
"""

from __future__ import annotations

from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.project import Project, ProjectSettings, settings_document, stored_settings
from orchestrator.domain.resource import Place, later, to_tick

_COLUMNS = "project_no, project_id, name, settings, revision, created_at, updated_at"

_INSERT = f"""
INSERT INTO projects (project_id, name, settings, created_at, updated_at)
VALUES ($1, $2, $3, $4, $4)
ON CONFLICT ON CONSTRAINT projects_id_key DO NOTHING
RETURNING {_COLUMNS}
"""


async def insert(
    conn: Connection[Record], *, project_id: str, name: str, settings: ProjectSettings, now: datetime
) -> Project | None:
    """Write a new project; None when its id is taken."""
    row = await conn.fetchrow(_INSERT, project_id, name, settings_document(settings), to_tick(now))
    return _project(row) if row else None


_GET = f"SELECT {_COLUMNS} FROM projects WHERE project_no = $1"
_FIND = f"SELECT {_COLUMNS} FROM projects WHERE project_id = $1"


async def get(conn: Connection[Record], project_no: int) -> Project:
    """A project that exists: one a call acts in, or whose lock is held. Projects are never deleted."""
    row = await conn.fetchrow(_GET, project_no)
    assert row is not None, "projects are never deleted"
    return _project(row)


async def find(conn: Connection[Record], project_id: str) -> Project | None:
    row = await conn.fetchrow(_FIND, project_id)
    return _project(row) if row else None


_PAGE = f"""
SELECT {_COLUMNS} FROM projects
 WHERE $1::timestamptz IS NULL OR (created_at, project_id) < ($1, $2)
 ORDER BY created_at DESC, project_id DESC
 LIMIT $3
"""


async def page(conn: Connection[Record], after: Place | None, limit: int) -> tuple[list[Project], Place | None]:
    """At most `limit` (≥ 1) projects, newest first, from where an earlier page ended, and where this one did."""
    created_at, project_id = (after.created_at, after.id) if after else (None, None)
    rows = await conn.fetch(_PAGE, created_at, project_id, limit + 1)
    projects = [_project(row) for row in rows[:limit]]
    last = projects[-1] if len(rows) > limit else None
    return projects, Place(created_at=last.created_at, id=last.project_id) if last else None


_UPDATE = """
UPDATE projects SET name = $2, settings = $3, revision = $4, updated_at = $5 WHERE project_no = $1
"""


async def update(
    conn: Connection[Record], project: Project, *, name: str, settings: ProjectSettings, now: datetime
) -> None:
    """Write name and settings over those of `project`, whose definitions the caller holds."""
    await conn.execute(
        _UPDATE,
        project.project_no, name, settings_document(settings), project.revision + 1, later(project.updated_at, now),
    )  # fmt: skip


_TOUCH = "UPDATE projects SET definitions_version = definitions_version + 1 WHERE project_no = $1"


async def touch_definitions(conn: Connection[Record], project_no: int) -> None:
    """Announce a change of the project's definitions, and hold them until the transaction ends.

    Whoever changes a definition does this first. So changes of one project happen one after the other, and what one of
    them found (a segment that exists, an audience nobody uses) is still so when it commits. Readers are not held up.
    """
    await conn.execute(_TOUCH, project_no)


_HOLD = "SELECT true FROM projects WHERE project_no = $1 FOR NO KEY UPDATE"


async def hold_definitions(conn: Connection[Record], project_no: int) -> None:
    """The same without announcing anything, for who may find that there is nothing to change."""
    await conn.execute(_HOLD, project_no)


_DEFINITIONS_VERSION = "SELECT definitions_version FROM projects WHERE project_no = $1"


async def definitions_version(conn: Connection[Record], project_no: int) -> int:
    """Counts the changes of the project's definitions."""
    version: int = await conn.fetchval(_DEFINITIONS_VERSION, project_no)
    return version


def _project(row: Record) -> Project:
    return Project(
        project_no=row["project_no"],
        project_id=row["project_id"],
        name=row["name"],
        settings=stored_settings(row["settings"]),
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
