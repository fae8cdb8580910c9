"""From when on the events of a project are complete, where some have had their time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from asyncpg import Connection, Record

# Class of the advisory locks under which a horizon is moved (exclusive) and looked at by who is about to count on it
# (shared), one for each project.
_HORIZON = 0x4071204


async def hold(conn: Connection[Record], project_no: int) -> datetime | None:
    """The instant from which on all events are kept, until this transaction ends; None: nothing was ever removed."""
    await conn.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", _HORIZON, project_no)
    kept_from = await conn.fetchval("SELECT kept_from FROM event_horizons WHERE project_no = $1", project_no)
    return cast("datetime | None", kept_from)


async def hold_alone(conn: Connection[Record], project_no: int) -> Horizon | None:
    """Wait for whoever counts on the horizon and hold off others, to move it."""
    await conn.execute("SELECT pg_advisory_xact_lock($1, $2)", _HORIZON, project_no)
    row = await conn.fetchrow("SELECT kept_from, cleared_to FROM event_horizons WHERE project_no = $1", project_no)
    return Horizon(**row) if row else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Events from `kept_from` on are complete. Those before `cleared_to` are gone, but for what is counted since an
    earlier instant; what lies between is being removed."""

    kept_from: datetime
    cleared_to: datetime | None


_MOVE = """
INSERT INTO event_horizons (project_no, kept_from) VALUES ($1, $2)
ON CONFLICT (project_no) DO UPDATE SET kept_from = GREATEST(event_horizons.kept_from, excluded.kept_from)
"""
_CLEARED = "UPDATE event_horizons SET cleared_to = $2 WHERE project_no = $1"


async def move(conn: Connection[Record], project_no: int, kept_from: datetime) -> None:
    """Say that events before this are no longer complete, before the first of them is removed."""
    await conn.execute(_MOVE, project_no, kept_from)


async def cleared(conn: Connection[Record], project_no: int, to: datetime) -> None:
    """Say that what was to go has gone."""
    await conn.execute(_CLEARED, project_no, to)
