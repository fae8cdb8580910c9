"""Journeys in Postgres: what is edited, where each one's life stands, and its goal.

Callers own the connection and the transaction; writers hold the project's definitions (storage/projects.py), so that
what they read is still so when they write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.journey import Goal, Journey, JourneyStatus, OnArchive
from orchestrator.domain.resource import Place

_SELECT = """
SELECT j.journey_id, j.name, j.description, j.status, j.on_archive, j.draft IS NOT NULL AS has_draft, j.latest_version,
       j.goal_revision, g.event_name, g.goal_window, j.revision, j.created_at, j.updated_at, {definition} AS definition
  FROM journeys AS j
  JOIN journey_goals AS g
    ON g.project_no = j.project_no AND g.journey_id = j.journey_id AND g.goal_revision = j.goal_revision
"""

_FIND = f"""
{_SELECT.format(definition="coalesce(j.draft, v.definition)")}
  LEFT JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version AND j.draft IS NULL
 WHERE j.project_no = $1 AND j.journey_id = $2
"""


async def find(conn: Connection[Record], project_no: int, journey_id: str) -> Journey | None:
    row = await conn.fetchrow(_FIND, project_no, journey_id)
    return _journey(row) if row else None


_WHOLE = f"""
{_SELECT.format(definition="coalesce(j.draft, v.definition)")}
  LEFT JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version AND j.draft IS NULL
 WHERE j.project_no = $1
 ORDER BY j.journey_id
"""


async def whole(conn: Connection[Record], project_no: int) -> list[Journey]:
    """All journeys of a project, with their definitions."""
    return [_journey(row) for row in await conn.fetch(_WHOLE, project_no)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Entries refused for one reason since the hour in which the journey last changed; `last_hour` is the latest.

    None were where nobody comes any more (`last_hour` is None).
    """

    reason: str
    total: int
    last_hour: datetime | None


#: SQL: the segment that a version `v` starts on, whose trigger contract, if it has one, is `t`.
TRIGGER_SEGMENT = "coalesce(t.segment_id, v.definition #>> '{entryCondition,segmentId}')"

# Beside the journey, in one statement: it is read on every look at a journey, and there is hardly ever any.
_STANDING = f"""
WITH found AS ({_FIND})
SELECT found.*, ARRAY(
           SELECT ROW (r.reason, sum(r.total)::bigint, max(r.hour))
             FROM refusal_counts AS r
            WHERE r.project_no = $1 AND r.journey_id = $2 AND r.reason = ANY ($3::text[])
              AND r.hour >= date_trunc('hour', found.updated_at, 'UTC')
            GROUP BY r.reason
            ORDER BY r.reason) AS refused,
       EXISTS (SELECT FROM journey_versions AS v
                 LEFT JOIN trigger_contracts AS t
                   ON t.project_no = v.project_no AND t.trigger_contract_id = v.definition ->> 'triggerContractId'
                CROSS JOIN LATERAL (SELECT {TRIGGER_SEGMENT} AS segment_id) AS heard
                WHERE v.project_no = $1 AND v.journey_id = $2 AND v.version = found.latest_version
                  AND heard.segment_id IS NOT NULL
                  AND NOT EXISTS (SELECT FROM segments AS s
                                   WHERE s.project_no = $1 AND s.segment_id = heard.segment_id)) AS hears_nothing,
       (SELECT count(*) FROM held_entries AS h WHERE h.project_no = $1 AND h.journey_id = $2) AS held,
       (SELECT v.definition FROM journey_versions AS v
         WHERE v.project_no = $1 AND v.journey_id = $2 AND v.version = found.latest_version
           AND found.status = 'active' AND jsonb_typeof(v.definition -> 'schedule') = 'object') AS scheduled
  FROM found
"""

#: Why nobody comes to a journey whose newest version listens to a segment that is gone.
TRIGGER_SEGMENT_NOT_FOUND = "trigger_segment_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A journey and what goes on there: `refused` counts entries since it last changed; `held` those that wait.
    `scheduled` is the definition of its newest version, where that enrolls on schedule and the journey is active.
    """

    journey: Journey
    refused: list[Refused]
    held: int
    scheduled: Any | None


async def standing(
    conn: Connection[Record], project_no: int, journey_id: str, reasons: Collection[str]
) -> Standing | None:
    """`refused` has these reasons; and, of whichever status the journey is, TRIGGER_SEGMENT_NOT_FOUND."""
    row = await conn.fetchrow(_STANDING, project_no, journey_id, list(reasons))
    if row is None:
        return None
    refused = [Refused(reason=reason, total=total, last_hour=hour) for reason, total, hour in row["refused"]]
    if row["hears_nothing"]:
        refused.append(Refused(reason=TRIGGER_SEGMENT_NOT_FOUND, total=0, last_hour=None))
    return Standing(journey=_journey(row), refused=refused, held=row["held"], scheduled=row["scheduled"])


_SHUT = "SELECT true FROM journeys WHERE project_no = $1 AND journey_id = $2 FOR UPDATE"


async def shut(conn: Connection[Record], project_no: int, journey_id: str) -> None:
    """Wait for whoever is letting subjects in (they hold the row FOR KEY SHARE), and let nobody in until the end of
    the transaction: what runs now is all there will be."""
    await conn.execute(_SHUT, project_no, journey_id)


_KEEP_OPEN = """
SELECT journey_id, status FROM journeys
 WHERE project_no = $1 AND journey_id = ANY ($2::text[]) AND status IN ('active', 'paused')
 ORDER BY journey_id
   FOR KEY SHARE
"""


async def keep_open(conn: Connection[Record], project_no: int, journey_ids: Iterable[str]) -> dict[str, JourneyStatus]:
    """Those of these journeys that are active or paused; none of them is shut before this transaction has ended.
    Callers hold their subjects' locks, and take no other one afterwards."""
    rows = await conn.fetch(_KEEP_OPEN, project_no, list(journey_ids))
    return {row["journey_id"]: JourneyStatus(row["status"]) for row in rows}


_LISTENING_THROUGH = """
SELECT j.journey_id FROM journeys AS j
  LEFT JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
 WHERE j.project_no = $1 AND j.status <> 'archived'
   AND ($2 = j.draft ->> 'triggerContractId' OR $2 = v.definition ->> 'triggerContractId')
 ORDER BY j.journey_id
 LIMIT $3
"""


async def listening_through(
    conn: Connection[Record], project_no: int, trigger_contract_id: str, *, limit: int
) -> list[str]:
    """Journeys whose draft or newest version names this contract, but for archived ones."""
    rows = await conn.fetch(_LISTENING_THROUGH, project_no, trigger_contract_id, limit)
    return [row["journey_id"] for row in rows]


_LISTENING_TO = f"""
SELECT j.journey_id, t.trigger_contract_id
  FROM journeys AS j
  JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
  LEFT JOIN trigger_contracts AS t
    ON t.project_no = j.project_no AND t.trigger_contract_id = v.definition ->> 'triggerContractId'
 WHERE j.project_no = $1 AND j.status <> 'archived' AND {TRIGGER_SEGMENT} = $2
 ORDER BY j.journey_id
"""


async def listening_to(conn: Connection[Record], project_no: int, segment_id: str) -> list[tuple[str, str | None]]:
    """Journeys whose newest version starts on this segment, but for archived ones; each with its trigger contract, None
    where it has the condition for itself.
    """
    rows = await conn.fetch(_LISTENING_TO, project_no, segment_id)
    return [(row["journey_id"], row["trigger_contract_id"]) for row in rows]


_LATEST = "SELECT latest_version FROM journeys WHERE project_no = $1 AND journey_id = $2"


async def latest_version(conn: Connection[Record], project_no: int, journey_id: str) -> int | None:
    """The newest version; None where there is none, or no such journey."""
    version: int | None = await conn.fetchval(_LATEST, project_no, journey_id)
    return version


_EXISTS = "SELECT EXISTS (SELECT FROM journeys WHERE project_no = $1 AND journey_id = $2)"


async def exists(conn: Connection[Record], project_no: int, journey_id: str) -> bool:
    return bool(await conn.fetchval(_EXISTS, project_no, journey_id))


_PAGE = f"""
{_SELECT.format(definition="'{}'::jsonb")}
 WHERE j.project_no = $1
   AND ($2::timestamptz IS NULL OR j.created_at <= $2 AND (j.created_at < $2 OR j.journey_id > $3))
   AND ($5::text[] IS NULL OR j.status = ANY ($5))
 ORDER BY j.created_at DESC, j.journey_id
 LIMIT $4
OFFSET $6
"""


async def page(
    conn: Connection[Record],
    project_no: int,
    statuses: Collection[JourneyStatus],
    after: Place | None,
    limit: int,
    passed_over: int,
) -> tuple[list[Journey], Place | None]:
    """At most `limit` (≥ 1) journeys in one of these statuses (none: in any), newest first, after so many that are
    passed over, and where it ends.

    Their definitions, which may be large, are left out: empty.
    """
    created_at, journey_id = (after.created_at, after.id) if after else (None, None)
    wanted = [status.value for status in statuses] or None
    rows = await conn.fetch(_PAGE, project_no, created_at, journey_id, limit + 1, wanted, passed_over)
    journeys = [_journey(row) for row in rows[:limit]]
    last = journeys[-1] if len(rows) > limit else None
    return journeys, Place(created_at=last.created_at, id=last.journey_id) if last else None


_INSERT = """
INSERT INTO journeys (project_no, journey_id, name, description, status, on_archive, draft, latest_version,
                      goal_revision, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT ON CONSTRAINT journeys_pkey DO NOTHING
RETURNING true
"""


async def insert(conn: Connection[Record], project_no: int, journey: Journey) -> bool:
    """Write a new journey and its goal; False when its id is taken."""
    j = journey
    inserted = await conn.fetchval(
        _INSERT,
        project_no, j.journey_id, j.name, j.description, j.status.value, j.on_archive.value if j.on_archive else None,
        j.definition if j.has_draft else None, j.latest_version, j.goal.revision, j.revision, j.created_at,
        j.updated_at,
    )  # fmt: skip
    if inserted:
        await _insert_goal(conn, project_no, journey)
    return bool(inserted)


_UPDATE = """
UPDATE journeys
   SET name = $3, description = $4, status = $5, on_archive = $6, draft = $7, latest_version = $8, goal_revision = $9,
       revision = $10, updated_at = $11
 WHERE project_no = $1 AND journey_id = $2
"""


async def update(conn: Connection[Record], project_no: int, journey: Journey) -> None:
    """Write the journey over what is there; its goal too, if it is a new one."""
    j = journey
    await conn.execute(
        _UPDATE,
        project_no, j.journey_id, j.name, j.description, j.status.value, j.on_archive.value if j.on_archive else None,
        j.definition if j.has_draft else None, j.latest_version, j.goal.revision, j.revision, j.updated_at,
    )  # fmt: skip
    await _insert_goal(conn, project_no, journey)


async def delete(conn: Connection[Record], project_no: int, journey_id: str) -> None:
    """Remove the journey with its draft. Versions and goals are what the ledgers name, and stay."""
    await conn.execute("DELETE FROM journeys WHERE project_no = $1 AND journey_id = $2", project_no, journey_id)


_INSERT_GOAL = """
INSERT INTO journey_goals (project_no, journey_id, goal_revision, event_name, goal_window, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT ON CONSTRAINT journey_goals_pkey DO NOTHING
"""


async def _insert_goal(conn: Connection[Record], project_no: int, journey: Journey) -> None:
    goal = journey.goal
    await conn.execute(
        _INSERT_GOAL, project_no, journey.journey_id, goal.revision, goal.event_name, goal.window, journey.updated_at
    )


_GOAL = """
SELECT goal_revision AS revision, event_name, goal_window AS "window" FROM journey_goals
 WHERE project_no = $1 AND journey_id = $2 AND goal_revision = $3
"""


async def goal(conn: Connection[Record], project_no: int, journey_id: str, revision: int) -> Goal:
    """A goal there was, also of a journey that was deleted. It never changes, so it may be kept."""
    row = await conn.fetchrow(_GOAL, project_no, journey_id, revision)
    assert row is not None, "goals are never deleted"
    return Goal(**row)


_HIGHEST_GOAL = "SELECT coalesce(max(goal_revision), 0) FROM journey_goals WHERE project_no = $1 AND journey_id = $2"


async def highest_goal_revision(conn: Connection[Record], project_no: int, journey_id: str) -> int:
    """The highest there ever was under this id, 0 for none; also of a journey that was deleted."""
    revision: int = await conn.fetchval(_HIGHEST_GOAL, project_no, journey_id)
    return revision


_PUBLISHED_OTHERS = """
SELECT count(*) FROM journeys WHERE project_no = $1 AND journey_id <> $2 AND status IN ('active', 'paused')
"""


async def count_published_others(conn: Connection[Record], project_no: int, journey_id: str) -> int:
    """How many other journeys count against the plan: those published and not archived."""
    count: int = await conn.fetchval(_PUBLISHED_OTHERS, project_no, journey_id)
    return count


def _journey(row: Record) -> Journey:
    return Journey(
        journey_id=row["journey_id"],
        name=row["name"],
        description=row["description"],
        status=JourneyStatus(row["status"]),
        on_archive=OnArchive(row["on_archive"]) if row["on_archive"] else None,
        has_draft=row["has_draft"],
        definition=row["definition"],
        latest_version=row["latest_version"],
        goal=Goal(revision=row["goal_revision"], event_name=row["event_name"], window=row["goal_window"]),
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
