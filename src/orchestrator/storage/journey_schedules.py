"""Journeys that enroll on schedule, and whether Temporal knows how their schedules stand. Writers of journeys note that
something may have changed; workers tell Temporal, and look again from time to time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

_NOTE = """
INSERT INTO journey_schedules (project_no, journey_id, changed_at)
SELECT $1, $2, $3 FROM journeys AS j
  JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
 WHERE j.project_no = $1 AND j.journey_id = $2 AND jsonb_typeof(v.definition -> 'schedule') = 'object'
ON CONFLICT ON CONSTRAINT journey_schedules_pkey DO NOTHING
"""

_CHANGED = (
    "UPDATE journey_schedules SET revision = revision + 1, changed_at = $3 WHERE project_no = $1 AND journey_id = $2"
)


async def changed(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> None:
    """Note that this journey, as it is now, may have another schedule than Temporal knows, or none."""
    await conn.execute(_NOTE, project_no, journey_id, now)
    await conn.execute(_CHANGED, project_no, journey_id, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a schedule stands, as of a revision. `definition` is that of the journey's newest version; with `status` they
    are None where the journey is gone. `changed_at` is when it came to stand so; `is_news`: Temporal does not know yet.
    """

    project_no: int
    project_id: str
    journey_id: str
    revision: int
    changed_at: datetime
    is_news: bool
    status: str | None
    definition: Any | None
    due_at: datetime | None
    enrollment_job_id: str | None


_STANDING = """
SELECT s.project_no, p.project_id, s.journey_id, s.revision, s.changed_at, s.told_revision < s.revision AS is_news,
       j.status, v.definition, s.due_at, s.enrollment_job_id
  FROM journey_schedules AS s
  JOIN projects AS p ON p.project_no = s.project_no
  LEFT JOIN journeys AS j ON j.project_no = s.project_no AND j.journey_id = s.journey_id
  LEFT JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
"""

# In two statements: the second one sees what was committed before the rows were taken.
_CLAIM = """
UPDATE journey_schedules SET leased_until = $2
 WHERE (project_no, journey_id) IN (
       SELECT project_no, journey_id FROM journey_schedules
        WHERE leased_until <= $1 AND (told_revision < revision OR told_at < $1::timestamptz - $3::interval)
        ORDER BY told_at LIMIT $4
          FOR UPDATE SKIP LOCKED)
RETURNING project_no, journey_id
"""

_OF = f"""
{_STANDING.rstrip()}
  JOIN unnest($1::int[], $2::text[]) AS w (project_no, journey_id)
    ON w.project_no = s.project_no AND w.journey_id = s.journey_id
"""


async def claim(
    conn: Connection[Record], now: datetime, *, lease: timedelta, look_again: timedelta, limit: int
) -> list[Standing]:
    """Some of those that Temporal has to be told of, or was not for `look_again`; nobody else takes them before the
    lease has run out.
    """
    rows = await conn.fetch(_CLAIM, now, now + lease, look_again, limit)
    if not rows:
        return []
    found = await conn.fetch(_OF, [row["project_no"] for row in rows], [row["journey_id"] for row in rows])
    return [Standing(**row) for row in found]


_TOLD = """
UPDATE journey_schedules SET told_revision = $3, told_at = $4, leased_until = '-infinity'
 WHERE project_no = $1 AND journey_id = $2
"""

_FORGET = "DELETE FROM journey_schedules WHERE project_no = $1 AND journey_id = $2 AND revision = $3"


async def told(conn: Connection[Record], standing: Standing, now: datetime, *, there_is_one: bool) -> None:
    """Temporal knows how it stood. Without a schedule the row goes, unless something has changed since."""
    if not there_is_one:
        await conn.execute(_FORGET, standing.project_no, standing.journey_id, standing.revision)
    await conn.execute(_TOLD, standing.project_no, standing.journey_id, standing.revision, now)


_HOLD = "SELECT true FROM journey_schedules WHERE project_no = $1 AND journey_id = $2 FOR UPDATE"
_FIND = f"{_STANDING.rstrip()} WHERE s.project_no = $1 AND s.journey_id = $2"


async def hold(conn: Connection[Record], project_no: int, journey_id: str) -> Standing | None:
    """How it stands, and no other firing is seen to before the transaction ends."""
    if not await conn.fetchval(_HOLD, project_no, journey_id):
        return None
    row = await conn.fetchrow(_FIND, project_no, journey_id)
    return Standing(**row) if row else None


_SEEN_TO = """
UPDATE journey_schedules SET due_at = $3, enrollment_job_id = coalesce($4, enrollment_job_id)
 WHERE project_no = $1 AND journey_id = $2
"""


async def seen_to(conn: Connection[Record], standing: Standing, due_at: datetime, job_id: str | None) -> None:
    """What was due then has been decided about; `job_id` None: nothing came of it. The caller holds it."""
    await conn.execute(_SEEN_TO, standing.project_no, standing.journey_id, due_at, job_id)
