"""Replays of refused entries: asked for by callers, worked through by workers, who share them by row locks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.entry_replay import EntryReplay
from orchestrator.storage.refused_entries import Place

_COLUMNS = """
entry_replay_id, journey_id, reason, refused_after, refused_before, matched, looked_at, enrolled, errors, refused,
requested_at, ended_at, end_reason
"""

_INSERT = """
INSERT INTO entry_replays (project_no, entry_replay_id, journey_id, reason, refused_after, refused_before, matched,
                           requested_at, place_at, moved_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $5, $8, $9)
"""


async def insert(conn: Connection[Record], project_no: int, replay: EntryReplay) -> None:
    """Ask for it: workers begin after the commit, unless it has an end already."""
    await conn.execute(
        _INSERT, project_no, replay.replay_id, replay.journey_id, replay.reason, replay.after, replay.before,
        replay.matched, replay.requested_at, replay.ended_at,
    )  # fmt: skip


_FIND = f"SELECT {_COLUMNS} FROM entry_replays WHERE project_no = $1 AND entry_replay_id = $2"


async def find(conn: Connection[Record], project_no: int, replay_id: str) -> EntryReplay | None:
    row = await conn.fetchrow(_FIND, project_no, replay_id)
    return _replay(row) if row else None


async def hold(conn: Connection[Record], project_no: int, replay_id: str) -> EntryReplay | None:
    """The same, held until the transaction ends: waits for the page that is under way, and none follows."""
    row = await conn.fetchrow(f"{_FIND} FOR UPDATE", project_no, replay_id)
    return _replay(row) if row else None


_END = "UPDATE entry_replays SET ended_at = $3, end_reason = $4 WHERE project_no = $1 AND entry_replay_id = $2"


async def end(conn: Connection[Record], project_no: int, replay: EntryReplay) -> None:
    """Write that it has ended, and why; the caller holds it."""
    await conn.execute(_END, project_no, replay.replay_id, replay.ended_at, replay.end_reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A replay that this transaction works on, and how far it has come."""

    project_no: int
    replay: EntryReplay
    place: Place

    @property
    def page(self) -> tuple[int, str, Place]:
        """Which page comes next."""
        return self.project_no, self.replay.replay_id, self.place


_NEXT = f"""
SELECT project_no, {_COLUMNS}, place_at, place_no
  FROM entry_replays WHERE ended_at IS NULL ORDER BY moved_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""


async def take(conn: Connection[Record]) -> UnderWay | None:
    """The one whose last page is the longest ago and that nobody else is at."""
    row = await conn.fetchrow(_NEXT)
    if row is None:
        return None
    return UnderWay(project_no=row["project_no"], replay=_replay(row), place=(row["place_at"], row["place_no"]))


_RECORD = """
UPDATE entry_replays
   SET looked_at = $3, enrolled = $4, errors = $5, refused = $6, place_at = $7, place_no = $8, moved_at = $9,
       ended_at = $10, end_reason = $11
 WHERE project_no = $1 AND entry_replay_id = $2
"""


async def record(conn: Connection[Record], project_no: int, replay: EntryReplay, place: Place, now: datetime) -> None:
    """Write how far it has come; the caller holds it."""
    await conn.execute(
        _RECORD, project_no, replay.replay_id, replay.looked_at, replay.enrolled, replay.errors, dict(replay.refused),
        *place, now, replay.ended_at, replay.end_reason,
    )  # fmt: skip


def _replay(row: Record) -> EntryReplay:
    return EntryReplay(
        replay_id=row["entry_replay_id"],
        journey_id=row["journey_id"],
        reason=row["reason"],
        after=row["refused_after"],
        before=row["refused_before"],
        matched=row["matched"],
        looked_at=row["looked_at"],
        enrolled=row["enrolled"],
        errors=row["errors"],
        refused=row["refused"],
        requested_at=row["requested_at"],
        ended_at=row["ended_at"],
        end_reason=row["end_reason"],
    )
