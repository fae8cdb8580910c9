"""Journeys in Postgres: what is edited, where each one's life stands, and its goal. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.journey import Goal, Journey, JourneyStatus, OnArchive
from orchestrator.domain.refusals import AlreadyExists, NotFound

_SELECT = """
SELECT j.journey_id, j.name, j.description, j.status, j.on_archive, j.draft, j.latest_version,
       v.definition AS published, j.goal_revision, g.event_name, g.goal_window, j.revision, j.created_at, j.updated_at
  FROM journeys AS j
  LEFT JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
  JOIN journey_goals AS g
    ON g.project_no = j.project_no AND g.journey_id = j.journey_id AND g.goal_revision = j.goal_revision
"""

_GET = f"{_SELECT} WHERE j.project_no = $1 AND j.journey_id = $2"


async def get(conn: Connection[Record], project_no: int, journey_id: str) -> Journey:
    """Raises NotFound."""
    row = await conn.fetchrow(_GET, project_no, journey_id)
    if row is None:
        raise not_found(journey_id)
    return _journey(row)


_LOCK = "SELECT 1 FROM journeys WHERE project_no = $1 AND journey_id = $2 FOR NO KEY UPDATE"


async def lock(conn: Connection[Record], project_no: int, journey_id: str) -> Journey:
    """The journey, which nobody else changes until the transaction ends. Raises NotFound."""
    if await conn.fetchval(_LOCK, project_no, journey_id) is None:
        raise not_found(journey_id)
    # In a statement of its own: the one that waited for the lock sees the goal and version of before the wait.
    return await get(conn, project_no, journey_id)


_EXISTS = "SELECT EXISTS (SELECT FROM journeys WHERE project_no = $1 AND journey_id = $2)"


async def must_exist(conn: Connection[Record], project_no: int, journey_id: str) -> None:
    """Raises NotFound."""
    if not await conn.fetchval(_EXISTS, project_no, journey_id):
        raise not_found(journey_id)


def not_found(journey_id: str) -> NotFound:
    return NotFound("JOURNEY_NOT_FOUND", f"there is no journey {journey_id}", journeyId=journey_id)


_PAGE = f"""
{_SELECT}
 WHERE j.project_no = $1
   AND ($2::text[] IS NULL OR j.status = ANY ($2))
   AND ($3::timestamptz IS NULL OR j.created_at < $3 OR (j.created_at = $3 AND j.journey_id > $4))
 ORDER BY j.created_at DESC, j.journey_id
 LIMIT $5
"""


async def page(
    conn: Connection[Record],
    project_no: int,
    *,
    statuses: Sequence[JourneyStatus],
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Journey]:
    """Journeys, newest first, then by id: those after (created_at, journey_id). No statuses means all."""
    wanted = [status.value for status in statuses] or None
    created_at, journey_id = after or (None, None)
    rows = await conn.fetch(_PAGE, project_no, wanted, created_at, journey_id, limit)
    return [_journey(row) for row in rows]


_INSERT = """
INSERT INTO journeys (project_no, journey_id, name, description, status, on_archive, draft, latest_version,
                      goal_revision, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (project_no, journey_id) DO NOTHING
RETURNING true
"""


async def insert(conn: Connection[Record], project_no: int, journey: Journey) -> None:
    """Write a new journey; its goal is written by `insert_goal`. Raises AlreadyExists."""
    j = journey
    inserted = await conn.fetchval(
        _INSERT,
        project_no, j.journey_id, j.name, j.description, j.status.value, j.on_archive.value if j.on_archive else None,
        j.draft, j.latest_version, j.goal.revision, j.revision, j.created_at, j.updated_at,
    )  # fmt: skip
    if not inserted:
        raise AlreadyExists("ALREADY_EXISTS", f"there is a journey {j.journey_id} already", journeyId=j.journey_id)


_UPDATE = """
UPDATE journeys
   SET name = $3, description = $4, status = $5, on_archive = $6, draft = $7, latest_version = $8, goal_revision = $9,
       revision = $10, updated_at = $11
 WHERE project_no = $1 AND journey_id = $2
"""


async def update(conn: Connection[Record], project_no: int, journey: Journey) -> None:
    """Write the whole row, which the caller holds; a new goal is written by `insert_goal`."""
    j = journey
    await conn.execute(
        _UPDATE,
        project_no, j.journey_id, j.name, j.description, j.status.value, j.on_archive.value if j.on_archive else None,
        j.draft, j.latest_version, j.goal.revision, j.revision, j.updated_at,
    )  # fmt: skip


async def delete(conn: Connection[Record], project_no: int, journey_id: str) -> None:
    """Remove the row alone: versions and goals are what ledgers refer to, and stay."""
    await conn.execute("DELETE FROM journeys WHERE project_no = $1 AND journey_id = $2", project_no, journey_id)


_INSERT_GOAL = """
INSERT INTO journey_goals (project_no, journey_id, goal_revision, event_name, goal_window, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""


async def insert_goal(conn: Connection[Record], project_no: int, journey_id: str, goal: Goal, now: datetime) -> None:
    await conn.execute(_INSERT_GOAL, project_no, journey_id, goal.revision, goal.event_name, goal.window, now)


_LATEST_GOAL = "SELECT coalesce(max(goal_revision), 0) FROM journey_goals WHERE project_no = $1 AND journey_id = $2"


async def highest_goal_revision(conn: Connection[Record], project_no: int, journey_id: str) -> int:
    """The highest goal revision there ever was under this id, 0 for none; also of a journey that was deleted."""
    revision: int = await conn.fetchval(_LATEST_GOAL, project_no, journey_id)
    return revision


_PUBLISHED = """
SELECT count(*) FROM journeys
 WHERE project_no = $1 AND journey_id <> $2 AND status IN ('active', 'paused')
"""


async def count_published_others(conn: Connection[Record], project_no: int, journey_id: str) -> int:
    """How many other journeys count against the plan: those published and not archived."""
    count: int = await conn.fetchval(_PUBLISHED, project_no, journey_id)
    return count


def _journey(row: Record) -> Journey:
    return Journey(
        journey_id=row["journey_id"],
        name=row["name"],
        description=row["description"],
        status=JourneyStatus(row["status"]),
        on_archive=OnArchive(row["on_archive"]) if row["on_archive"] else None,
        draft=row["draft"],
        latest_version=row["latest_version"],
        published=row["published"],
        goal=Goal(revision=row["goal_revision"], event_name=row["event_name"], window=row["goal_window"]),
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
