"""Segments in Postgres: definitions, and who uses them. Members of lists stand in static_members.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.resource import Page, Place
from orchestrator.domain.segment import Segment, User
from orchestrator.storage.resources import Table

_SYSTEM_FIRST = """
SELECT segment_id, kind, name, description, predicate, revision, created_at, updated_at FROM segments
 WHERE project_no = $1
   AND ($2::timestamptz IS NULL
        OR (kind = 'system', created_at, segment_id)
         < ((SELECT kind = 'system' FROM segments WHERE project_no = $1 AND segment_id = $3) IS TRUE, $2, $3))
 ORDER BY kind = 'system' DESC, created_at DESC, segment_id DESC
 LIMIT $4
"""


class _Segments(Table[Segment]):
    """System segments come first."""

    async def page(self, conn: Connection[Record], project_no: int, after: Place | None, limit: int) -> Page[Segment]:
        return await self._read_page(conn, _SYSTEM_FIRST, project_no, after, limit)


segments = _Segments("segments", id_column="segment_id", content=Segment)

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


_FIND = "SELECT segment_no, kind FROM segments WHERE project_no = $1 AND segment_id = $2"


async def find(conn: Connection[Record], project_no: int, segment_id: str) -> Held | None:
    """The segment as it is now, not held; None when there is none."""
    row = await conn.fetchrow(_FIND, project_no, segment_id)
    return Held(**row) if row else None


#: SQL: whether a definition of a journey names the segment outside of predicates.
_OWN = "$2 IN ({0} #>> '{{entryCondition,segmentId}}', {0} #>> '{{schedule,segmentId}}')"

# Predicates stand in documents of any shape, so leaves are looked for at every depth. A version is in use while new
# executions take it, or while any are under way on it.
_USERS = f"""
WITH named AS (SELECT '$.** ? (@.kind == "in_cohort" && @.cohortId == $id)'::jsonpath AS leaf,
                      jsonb_build_object('id', $2::text) AS named_id)
SELECT kind, id FROM named CROSS JOIN LATERAL (
    SELECT 'audience' AS kind, a.audience_id AS id FROM audiences AS a
     WHERE a.project_no = $1 AND jsonb_path_exists(a.predicate, leaf, named_id)
    UNION ALL
    SELECT 'segment', s.segment_id FROM segments AS s
     WHERE s.project_no = $1 AND jsonb_path_exists(s.predicate, leaf, named_id)
    UNION ALL
    SELECT 'trigger_contract', t.trigger_contract_id FROM trigger_contracts AS t
     WHERE t.project_no = $1 AND (t.segment_id = $2 OR jsonb_path_exists(t.predicate, leaf, named_id))
    UNION ALL
    SELECT 'journey', j.journey_id FROM journeys AS j
     WHERE j.project_no = $1 AND j.status <> 'archived'
       AND (jsonb_path_exists(j.draft, leaf, named_id) OR {_OWN.format("j.draft")})
    UNION ALL
    SELECT 'journey_version', v.journey_id || '/' || v.version FROM journey_versions AS v
      LEFT JOIN journeys AS j ON j.project_no = v.project_no AND j.journey_id = v.journey_id
     WHERE v.project_no = $1
       AND (j.status <> 'archived' AND j.latest_version = v.version
            OR EXISTS (SELECT FROM executions AS e
                        WHERE e.project_no = $1 AND e.journey_id = v.journey_id AND e.outcome IS NULL
                          AND v.version IN (e.version, e.carry_version)))
        AND (jsonb_path_exists(v.definition, leaf, named_id) OR {_OWN.format("v.definition")})
) AS users
ORDER BY kind, id
LIMIT $3
"""


async def users(conn: Connection[Record], project_no: int, segment_id: str, *, limit: int) -> list[User]:
    """What names this segment: audiences, other segments, trigger contracts, drafts, and versions that are in use.

    At most `limit` of them.
    """
    rows = await conn.fetch(_USERS, project_no, segment_id, limit)
    return [User(**row) for row in rows]


# Contracts of events ask about no segments.
_ASKING = """
SELECT kind, id, predicate FROM (
    SELECT 'audience' AS kind, audience_id AS id, predicate FROM audiences WHERE project_no = $1
    UNION ALL
    SELECT 'trigger_contract', trigger_contract_id, predicate FROM trigger_contracts
     WHERE project_no = $1 AND segment_id IS NOT NULL AND predicate IS NOT NULL
) AS asking
 WHERE EXISTS (SELECT FROM jsonb_path_query(predicate, '$.** ? (@.kind == "in_cohort").cohortId') AS named (id)
                WHERE named.id #>> '{}' = ANY ($2::text[]))
 ORDER BY kind, id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """An audience or a trigger contract whose predicate names a segment."""

    kind: str
    id: str
    predicate: Any


async def asking(conn: Connection[Record], project_no: int, segment_ids: Iterable[str]) -> list[Asking]:
    """Audiences and trigger contracts whose predicates name one of these segments."""
    return [Asking(**row) for row in await conn.fetch(_ASKING, project_no, list(segment_ids))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """A segment with rules, and whether every subject has been held against them since they changed."""

    segment_id: str
    segment_no: int
    predicate: Any
    rules_revision: int
    building: bool


_RULED = """
SELECT segment_id, segment_no, predicate, rules_revision,
       built_revision IS DISTINCT FROM rules_revision AS building
  FROM segments WHERE project_no = $1 AND predicate IS NOT NULL ORDER BY segment_no
"""

_LISTS = "SELECT segment_id, segment_no FROM segments WHERE project_no = $1 AND predicate IS NULL"


async def ruled(conn: Connection[Record], project_no: int) -> list[Ruled]:
    """All segments with rules, by number."""
    return [Ruled(**row) for row in await conn.fetch(_RULED, project_no)]


async def lists(conn: Connection[Record], project_no: int) -> dict[str, int]:
    """The numbers of all lists, by id."""
    return {row["segment_id"]: row["segment_no"] for row in await conn.fetch(_LISTS, project_no)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How far a segment's membership has been worked out.

    `evaluated_at`: the last pass over everybody saw all that had happened by then, and `entered` and `departed` are
    those it moved. `building`: not everybody has been held against the rules as they are now.
    """

    segment_no: int
    building: bool
    evaluated_at: datetime | None
    entered: int
    departed: int


_FRESHNESS = """
SELECT segment_id, segment_no, predicate IS NOT NULL AND built_revision IS DISTINCT FROM rules_revision AS building,
       last_evaluated_at AS evaluated_at, last_entered AS entered, last_departed AS departed
  FROM segments WHERE project_no = $1 AND segment_id = ANY ($2::text[])
"""


async def freshness(conn: Connection[Record], project_no: int, segment_ids: Iterable[str]) -> dict[str, Freshness]:
    """By id, of those that exist."""
    rows = await conn.fetch(_FRESHNESS, project_no, list(segment_ids))
    return {row["segment_id"]: Freshness(**{name: row[name] for name in _FRESH}) for row in rows}


_FRESH = ("segment_no", "building", "evaluated_at", "entered", "departed")

_REBUILD = """
UPDATE segments SET rules_revision = rules_revision + 1, rules_since = clock_timestamp()
 WHERE project_no = $1 AND segment_id = ANY ($2::text[]) AND predicate IS NOT NULL
"""


async def rebuild(conn: Connection[Record], project_no: int, segment_ids: Iterable[str]) -> None:
    """Everybody has to be held against the rules of these segments again, which are not what they were."""
    await conn.execute(_REBUILD, project_no, list(segment_ids))
