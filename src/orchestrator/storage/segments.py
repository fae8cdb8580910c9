"""Segments in Postgres: definitions, and who uses them. Members of lists stand in static_members.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from asyncpg import Connection, Record

from orchestrator.domain.segment import Segment, User
from orchestrator.storage.resources import Table

segments = Table("segments", id_column="segment_id", content=Segment)

_KNOWN = "SELECT segment_id FROM segments WHERE project_no = $1 AND segment_id = ANY ($2::text[])"


async def known(conn: Connection[Record], project_no: int, segment_ids: Iterable[str]) -> set[str]:
    """Those of these segments that exist."""
    wanted = sorted(set(segment_ids))
    rows = await conn.fetch(_KNOWN, project_no, wanted) if wanted else []
    return {row["segment_id"] for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A segment that is not deleted before the transaction ends."""

    segment_no: int
    kind: str


_HOLD = "SELECT segment_no, kind FROM segments WHERE project_no = $1 AND segment_id = $2 FOR KEY SHARE"


async def hold(conn: Connection[Record], project_no: int, segment_id: str) -> Held | None:
    """Keep the segment from being deleted until the transaction ends; None when there is none."""
    row = await conn.fetchrow(_HOLD, project_no, segment_id)
    return Held(**row) if row else None


_HOLD_ALONE = "SELECT segment_no FROM segments WHERE project_no = $1 AND segment_id = $2 FOR UPDATE"


async def hold_alone(conn: Connection[Record], project_no: int, segment_id: str) -> int:
    """Wait for those who hold the segment and keep others from holding it; its number. It exists."""
    segment_no: int = await conn.fetchval(_HOLD_ALONE, project_no, segment_id)
    return segment_no


_NUMBER = "SELECT segment_no FROM segments WHERE project_no = $1 AND segment_id = $2"


async def number(conn: Connection[Record], project_no: int, segment_id: str) -> int | None:
    """The segment's number; None when there is none."""
    segment_no: int | None = await conn.fetchval(_NUMBER, project_no, segment_id)
    return segment_no


# Predicates stand in documents of any shape, so leaves are looked for at every depth. A version is in use while new
# executions take it, or while any are under way on it.
_USERS = """
WITH named AS (SELECT '$.** ? (@.kind == "in_cohort" && @.cohortId == $id)'::jsonpath AS leaf,
                      jsonb_build_object('id', $2::text) AS named_id)
SELECT kind, id FROM named CROSS JOIN LATERAL (
    SELECT 'audience' AS kind, a.audience_id AS id FROM audiences AS a
     WHERE a.project_no = $1 AND jsonb_path_exists(a.predicate, leaf, named_id)
    UNION ALL
    SELECT 'journey', j.journey_id FROM journeys AS j
     WHERE j.project_no = $1 AND j.status <> 'archived' AND jsonb_path_exists(j.draft, leaf, named_id)
    UNION ALL
    SELECT 'journey_version', v.journey_id || '/' || v.version FROM journey_versions AS v
      LEFT JOIN journeys AS j ON j.project_no = v.project_no AND j.journey_id = v.journey_id
     WHERE v.project_no = $1
       AND (j.status <> 'archived' AND j.latest_version = v.version
            OR EXISTS (SELECT FROM executions AS e
                        WHERE e.project_no = $1 AND e.journey_id = v.journey_id AND e.version = v.version
                          AND e.outcome IS NULL))
       AND jsonb_path_exists(v.definition, leaf, named_id)
) AS users
ORDER BY kind, id
LIMIT $3
"""


async def users(conn: Connection[Record], project_no: int, segment_id: str, *, limit: int) -> list[User]:
    """What names this segment: audiences, drafts, and versions that are in use; at most `limit` of them."""
    rows = await conn.fetch(_USERS, project_no, segment_id, limit)
    return [User(**row) for row in rows]
