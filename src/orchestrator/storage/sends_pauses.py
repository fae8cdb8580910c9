"""Pauses of sends in Postgres: of a whole project, and of single journeys."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from asyncpg import Connection, Record

#: In place of a journey's id: the pause is the project's.
ALL = ""

_PAUSE = """
INSERT INTO sends_pauses (project_no, journey_id, paused_at) VALUES ($1, $2, $3)
ON CONFLICT (project_no, journey_id) DO NOTHING
RETURNING true
"""


async def pause(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> bool:
    """False when it was paused already."""
    return bool(await conn.fetchval(_PAUSE, project_no, journey_id, now))


_RESUME = "DELETE FROM sends_pauses WHERE project_no = $1 AND journey_id = $2 RETURNING true"


async def resume(conn: Connection[Record], project_no: int, journey_id: str) -> bool:
    """False when it was not paused. Waits for those who are just holding a send because of it."""
    return bool(await conn.fetchval(_RESUME, project_no, journey_id))


_HOLD = "SELECT journey_id FROM sends_pauses WHERE project_no = $1 AND journey_id = ANY ($2::text[]) FOR SHARE"


async def hold(conn: Connection[Record], project_no: int, journey_ids: Collection[str]) -> frozenset[str]:
    """Those of these that are paused, ALL among them, and stay so until the transaction ends."""
    rows = await conn.fetch(_HOLD, project_no, sorted({*journey_ids, ALL}))
    return frozenset(row["journey_id"] for row in rows)


_SINCE = "SELECT paused_at FROM sends_pauses WHERE project_no = $1 AND journey_id = $2"


async def since(conn: Connection[Record], project_no: int, journey_id: str) -> datetime | None:
    """Since when it is paused; None: it is not."""
    paused_at: datetime | None = await conn.fetchval(_SINCE, project_no, journey_id)
    return paused_at


_PAUSED = """
SELECT journey_id, paused_at FROM sends_pauses
 WHERE project_no = $1 AND ($2::text IS NULL OR journey_id > $2) ORDER BY journey_id LIMIT $3
"""


async def paused(
    conn: Connection[Record], project_no: int, *, after: str | None, limit: int
) -> list[tuple[str, datetime]]:
    """At most `limit` pauses, by journey, after this one (None: from the first, which is ALL); since when each is."""
    rows = await conn.fetch(_PAUSED, project_no, after, limit)
    return [(row["journey_id"], row["paused_at"]) for row in rows]
