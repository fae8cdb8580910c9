"""How long events are kept, and what counts over longer: neither may cut off the other. Callers own the transaction.

`ever`, and windows with `atLeast` 1, are answered from counts that are kept for ever; what stands here is about leaves
that count two or more events in a window.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import assert_never

from asyncpg import Connection, Record

from orchestrator.domain.durations import format_duration
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.predicates.check import windowed_counts
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.instants import write_instant
from orchestrator.predicates.tree import EventFired, Ever, Last, Predicate, Since, Source
from orchestrator.storage import asked_events, clock, event_horizons, projects
from orchestrator.storage.asked_events import Asked

#: Users of a window that a refusal names.
USERS_NAMED = 20


async def window_faults(
    conn: Connection[Record], project_no: int, placed: Iterable[tuple[Predicate, str]]
) -> list[Fault]:
    """A fault for each leaf of these predicates, each with its path, that would count events which are not kept.

    What is kept is asked once, however many there are. The caller holds the project's definitions.
    """
    counts = [found for predicate, path in placed for found in windowed_counts(predicate, path)]
    if not counts:
        return []
    retention = (await projects.get(conn, project_no)).settings.event_retention
    kept_from = await event_horizons.hold(conn, project_no)
    now = await clock.now(conn)
    faults: list[Fault] = []
    cut_off: list[tuple[EventFired, str]] = []
    for leaf, at in counts:
        if retention is not None and isinstance(leaf.window, Last) and leaf.window.duration > retention:
            message = f"events are kept for {format_duration(retention)}: only a count of 1 looks further back"
            faults.append(Fault(path=under(at, "window"), reason="INVALID_WINDOW", message=message))
        elif kept_from is not None and _begin(leaf, now) < kept_from:
            cut_off.append((leaf, at))
    if kept_from is not None and cut_off:
        # What somebody counts already, nobody has removed.
        asked = await asked_events.in_use(conn, project_no)
        message = f"events of before {write_instant(kept_from)} have been removed"
        faults += [
            Fault(path=under(at, "window"), reason="INVALID_WINDOW", message=message)
            for leaf, at in cut_off
            if not _is_kept(leaf, asked, now)
        ]
    return faults


async def require_room(conn: Connection[Record], project_no: int, retention: timedelta, path: str) -> None:
    """Raises FailedPrecondition EVENT_RETENTION_TOO_SHORT where something counts over longer than that.

    The caller holds the project's definitions. What is counted since an instant stays, however long ago that is.
    """
    users = dict.fromkeys(
        (asked.kind, asked.id)
        for asked in await asked_events.in_use(conn, project_no)
        if isinstance(asked.leaf.window, Last) and asked.leaf.window.duration > retention
    )
    if users:
        names = ", ".join(f"{kind.replace('_', ' ')} {id}" for kind, id in list(users)[:USERS_NAMED])
        message = f"events are counted over more than {format_duration(retention)} by {names}"
        faults = [
            Fault(path=path, reason="EVENT_RETENTION_TOO_SHORT", message=f"{kind}/{id} counts over longer")
            for kind, id in list(users)[:USERS_NAMED]
        ]
        raise FailedPrecondition("EVENT_RETENTION_TOO_SHORT", message, faults, users=names)


def counted_since(asked: Iterable[Asked]) -> dict[Source, datetime]:
    """Of each source that is counted since an instant, the earliest such instant."""
    earliest: dict[Source, datetime] = {}
    for leaf in (one.leaf for one in asked):
        if isinstance(leaf.window, Since):
            earliest[leaf.source] = min(leaf.window.time, earliest.get(leaf.source, leaf.window.time))
    return earliest


def _begin(leaf: EventFired, now: datetime) -> datetime:
    """Where the leaf's window begins."""
    match leaf.window:
        case Last(duration=duration):
            return now - duration
        case Since(time=time):
            return time
        case Ever():
            raise ValueError("not a window that events are needed for")
        case _:
            assert_never(leaf.window)


def _is_kept(leaf: EventFired, asked: Iterable[Asked], now: datetime) -> bool:
    """Whether somebody counts the same events, or all of their name, from as early on."""
    same = (leaf.source, Source(name=leaf.source.name))
    return any(one.leaf.source in same and _begin(one.leaf, now) <= _begin(leaf, now) for one in asked)
