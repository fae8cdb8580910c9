"""Pauses of sends in Postgres: of a whole project, and of single journeys."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.auto_pause import Tally

#: In place of a journey's id: the pause is the project's.
ALL = ""

# Class of the advisory locks between who begins a send (shared) and who has paused them and waits for that (exclusive),
# one for each project.
_BEGINNING = 0x5E2D


async def hold_off(conn: Connection[Record], project_no: int) -> None:
    """Let no pause of this project be answered before this transaction ends.

    For who is about to begin a send. Comes before the statement that reads whether they are paused, and after the lock
    of the subject: pauses are not to wait for that as well.
    """
    await conn.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", _BEGINNING, project_no)


_AWAIT_BEGINNERS = "SELECT pg_advisory_xact_lock($1, $2)"


async def await_beginners(conn: Connection[Record], project_no: int) -> None:
    """Wait for those who are just beginning a send of this project. Who comes later reads what was committed before."""
    await conn.execute(_AWAIT_BEGINNERS, _BEGINNING, project_no)


_PAUSE = """
INSERT INTO sends_pauses (project_no, journey_id, paused_at) VALUES ($1, $2, $3)
ON CONFLICT (project_no, journey_id) DO NOTHING
RETURNING true
"""


async def pause(conn: Connection[Record], project_no: int, journey_id: str, now: datetime) -> bool:
    """False when it was paused already."""
    return bool(await conn.fetchval(_PAUSE, project_no, journey_id, now))


_PAUSE_BECAUSE = """
INSERT INTO sends_pauses (project_no, journey_id, paused_at, reason, sends, failed, complained)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (project_no, journey_id) DO NOTHING
RETURNING true
"""


async def pause_because(
    conn: Connection[Record], project_no: int, journey_id: str, now: datetime, reason: str, tally: Tally
) -> bool:
    """Pause what nobody asked to be paused, because of what came of the sends; False when it was paused already."""
    return bool(
        await conn.fetchval(
            _PAUSE_BECAUSE, project_no, journey_id, now, reason, tally.sends, tally.failed, tally.complained
        )
    )


_RESUME = "DELETE FROM sends_pauses WHERE project_no = $1 AND journey_id = $2 RETURNING true"


async def resume(conn: Connection[Record], project_no: int, journey_id: str) -> bool:
    """False when it was not paused. Waits for those who are just holding a send because of it."""
    return bool(await conn.fetchval(_RESUME, project_no, journey_id))


_HOLD = "SELECT journey_id FROM sends_pauses WHERE project_no = $1 AND journey_id = ANY ($2::text[]) FOR SHARE"


async def hold(conn: Connection[Record], project_no: int, journey_ids: Collection[str]) -> frozenset[str]:
    """Those of these that are paused, ALL among them, and stay so until the transaction ends."""
    rows = await conn.fetch(_HOLD, project_no, sorted({*journey_ids, ALL}))
    return frozenset(row["journey_id"] for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Since when sends are held: of a journey, or of ALL. `reason` and `tally`: why it was not asked for by anybody."""

    journey_id: str
    paused_at: datetime
    reason: str | None = None
    tally: Tally | None = None


_FIND = """
SELECT journey_id, paused_at, reason, sends, failed, complained FROM sends_pauses
 WHERE project_no = $1 AND journey_id = $2
"""


async def find(conn: Connection[Record], project_no: int, journey_id: str) -> Pause | None:
    row = await conn.fetchrow(_FIND, project_no, journey_id)
    return _pause(row) if row else None


_AUTOMATIC = "SELECT count(*) FROM sends_pauses WHERE reason IS NOT NULL"


async def automatic(conn: Connection[Record]) -> int:
    """How many pauses, of all projects, nobody asked for."""
    total: int = await conn.fetchval(_AUTOMATIC)
    return total


_PAUSED = """
SELECT journey_id, paused_at, reason, sends, failed, complained FROM sends_pauses
 WHERE project_no = $1 AND ($2::text IS NULL OR journey_id > $2) ORDER BY journey_id LIMIT $3
"""


async def paused(conn: Connection[Record], project_no: int, *, after: str | None, limit: int) -> list[Pause]:
    """At most `limit` pauses, by journey, after this one (None: from the first, which is ALL)."""
    return [_pause(row) for row in await conn.fetch(_PAUSED, project_no, after, limit)]


def _pause(row: Record) -> Pause:
    tally = None
    if row["reason"] is not None:
        tally = Tally(sends=row["sends"], failed=row["failed"], complained=row["complained"])
    return Pause(journey_id=row["journey_id"], paused_at=row["paused_at"], reason=row["reason"], tally=tally)
