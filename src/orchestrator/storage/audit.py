"""The audit log in Postgres. Append-only: no role may change or remove an entry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.audit import RUNTIME, Action, Entry, Value

_APPEND = """
INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id, metadata)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def append(
    conn: Connection[Record],
    *,
    project_no: int,
    at: datetime,
    actor: str,
    action: Action,
    resource_id: str,
    metadata: Mapping[str, Value] | None = None,
) -> None:
    """Record what is being done, in the transaction that does it."""
    said = dict(metadata or {})
    unknown = sorted(said.keys() - set(action.metadata))
    assert not unknown, f"{action.name} does not say {unknown}"
    await conn.execute(_APPEND, project_no, at, actor, action.name, action.resource_kind, resource_id, said)


# Backwards, entry by entry, until this hour is over: a search for the action would read all there ever was of a journey
# that never met it.
_SAID = """
WITH RECURSIVE newest AS (
    (SELECT audit_no, at, action FROM audit_log
      WHERE project_no = $1 AND resource_kind = $2 AND resource_id = $3
      ORDER BY audit_no DESC LIMIT 1)
    UNION ALL
    SELECT older.* FROM newest CROSS JOIN LATERAL (
        SELECT audit_no, at, action FROM audit_log
         WHERE project_no = $1 AND resource_kind = $2 AND resource_id = $3 AND audit_no < newest.audit_no
         ORDER BY audit_no DESC LIMIT 1) AS older
     WHERE newest.at >= $5 AND newest.action <> $4
)
SELECT EXISTS (SELECT FROM newest WHERE at >= $5 AND action = $4)
"""

# Serialises writers of the same line. They do not queue: whoever finds it taken leaves the line to the one who has it.
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"


async def append_hourly(
    conn: Connection[Record],
    *,
    project_no: int,
    at: datetime,
    action: Action,
    resource_id: str,
    metadata: Mapping[str, Value] | None = None,
) -> None:
    """Record what the runtime keeps meeting: once in each hour (UTC), however many meet it at once.

    A caller that rolls back takes its line with it, and so does what it had met: the repeat says it again.
    """
    hour = at.replace(minute=0, second=0, microsecond=0)

    async def said() -> bool:
        found: bool = await conn.fetchval(_SAID, project_no, action.resource_kind, resource_id, action.name, hour)
        return found

    if await said():
        return
    if not await conn.fetchval(_TRY_LOCK, f"audit:{project_no}:{action.name}:{resource_id}"):
        return
    if await said():  # again, in a snapshot newer than the lock
        return
    await append(
        conn, project_no=project_no, at=at, actor=RUNTIME, action=action, resource_id=resource_id, metadata=metadata
    )


_NEWEST = """
SELECT audit_no, at, actor, action, resource_kind, resource_id, metadata FROM audit_log
 WHERE project_no = $1 AND ($2::text IS NULL OR resource_kind = $2) AND ($3::text IS NULL OR resource_id = $3)
   AND ($4::bigint IS NULL OR audit_no < $4)
 ORDER BY audit_no DESC
 LIMIT $5
"""


async def newest(
    conn: Connection[Record],
    project_no: int,
    resource_kind: str | None,
    resource_id: str | None,
    *,
    before: int | None,
    limit: int,
) -> list[Entry]:
    """At most `limit` entries about this kind and this thing of it, newest first; those below `before` if it is given.

    None stands for any.
    """
    rows = await conn.fetch(_NEWEST, project_no, resource_kind, resource_id, before, limit)
    return [Entry(**row) for row in rows]
