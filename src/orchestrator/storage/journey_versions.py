"""Published definitions in Postgres: written once by publish, never changed, kept when their journey is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.journey import JourneyVersion, Pinned
from orchestrator.domain.journey_form import stored
from orchestrator.domain.refusals import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version as people see it: the document its author wrote, and who published it when."""

    journey_id: str
    version: int
    definition: Mapping[str, Any]
    pinned: Mapping[str, Pinned]
    sha256: bytes
    published_at: datetime
    published_by: str


_COLUMNS = "journey_id, version, definition, pinned, sha256, published_at, published_by"
_COLUMNS_OF_LISTS = "journey_id, version, '{}'::jsonb AS definition, pinned, sha256, published_at, published_by"

_FIND = f"""
SELECT {_COLUMNS} FROM journey_versions
 WHERE project_no = $1 AND journey_id = $2 AND version = $3
"""


async def find(conn: Connection[Record], project_no: int, journey_id: str, version: int) -> Published | None:
    """The version, also one of a journey that was deleted."""
    row = await conn.fetchrow(_FIND, project_no, journey_id, version)
    return _published(row) if row else None


_NEWEST = """
SELECT v.journey_id, v.version, v.definition, v.pinned, v.sha256, v.published_at, v.published_by
  FROM journeys AS j
  JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
 WHERE j.project_no = $1
"""


async def newest(conn: Connection[Record], project_no: int) -> list[Published]:
    """The newest versions of all journeys of a project that have any, archived ones included."""
    return [_published(row) for row in await conn.fetch(_NEWEST, project_no)]


async def get(conn: Connection[Record], project_no: int, journey_id: str, version: int) -> JourneyVersion:
    """The version as executions need it. It never changes, so it may be kept. Raises NotFound."""
    published = await find(conn, project_no, journey_id, version)
    if published is None:
        raise not_found(journey_id, version)
    return JourneyVersion(
        journey_id=published.journey_id,
        version=published.version,
        definition=stored(published.definition),
        pinned=published.pinned,
    )


def not_found(journey_id: str, version: int) -> NotFound:
    return NotFound(
        "JOURNEY_VERSION_NOT_FOUND",
        f"journey {journey_id} has no version {version}",
        journeyId=journey_id,
        version=str(version),
    )


_PAGE = f"""
SELECT {_COLUMNS_OF_LISTS} FROM journey_versions
 WHERE project_no = $1 AND journey_id = $2 AND published_at >= $3 AND ($4::bigint IS NULL OR version < $4)
 ORDER BY version DESC
 LIMIT $5
"""


async def page(
    conn: Connection[Record], project_no: int, journey_id: str, *, since: datetime, before: int | None, limit: int
) -> list[Published]:
    """At most `limit` versions published since then, newest first; those below `before` if it is given.

    Their definitions, which may be large, are left out: empty.
    """
    return [_published(row) for row in await conn.fetch(_PAGE, project_no, journey_id, since, before, limit)]


_INSERT = """
INSERT INTO journey_versions (project_no, journey_id, version, definition, pinned, sha256, published_at, published_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def insert(conn: Connection[Record], project_no: int, published: Published) -> None:
    """Write a version. The caller holds the journey's row, so that numbers are given once."""
    p = published
    await conn.execute(
        _INSERT,
        project_no, p.journey_id, p.version, p.definition, pinned_document(p.pinned), p.sha256, p.published_at,
        p.published_by,
    )  # fmt: skip


_HIGHEST = "SELECT coalesce(max(version), 0) FROM journey_versions WHERE project_no = $1 AND journey_id = $2"


async def highest(conn: Connection[Record], project_no: int, journey_id: str) -> int:
    """The highest version there ever was under this id, 0 for none. Also of a journey that was deleted: ids of
    executions contain the number, so a journey made anew under its id goes on counting."""
    number: int = await conn.fetchval(_HIGHEST, project_no, journey_id)
    return number


def pinned_document(pinned: Mapping[str, Pinned]) -> dict[str, Any]:
    """The pins as they are stored."""
    return {communication_id: asdict(pin) for communication_id, pin in pinned.items()}


def _published(row: Record) -> Published:
    return Published(
        journey_id=row["journey_id"],
        version=row["version"],
        definition=row["definition"],
        pinned={communication_id: Pinned(**pin) for communication_id, pin in row["pinned"].items()},
        sha256=row["sha256"],
        published_at=row["published_at"],
        published_by=row["published_by"],
    )
