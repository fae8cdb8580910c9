"""Crediting goal events to who converted, as they are worked through. The caller holds the subjects' rows.

Enrollments that come after an event look back for themselves (`Admissions`). A choice of an arm need not, since what
happens after it comes in after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncpg import Connection, Record

from orchestrator.storage import conversions
from orchestrator.storage.conversions import GoalEvent
from orchestrator.storage.inbox import Entry


async def credit(conn: Connection[Record], project_no: int, goals: Mapping[int, str], entries: Sequence[Entry]) -> None:
    """Credit what these entries of a project tell of; `goals` are its goals' events, by the numbers of their names.

    An event that is nobody's goal costs nothing.
    """
    if not goals:
        return
    events = [
        GoalEvent(key=entry.key, event_name=goals[name_no], occurred_at=occurred_at, received_at=entry.received_at)
        for entry in entries
        for name_no, occurred_at in zip(entry.name_nos, entry.occurred_ats, strict=True)
        if name_no in goals
    ]
    if events:
        await conversions.credit(conn, project_no, events)
    # Such an entry does not say what it was that happened in the past.
    if past := {entry.key for entry in entries if entry.kind == "backfill"}:
        await conversions.look_back(conn, project_no, sorted(past))
