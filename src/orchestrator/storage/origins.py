"""What would have started an execution: kept beside entries that wait or that were refused, to decide on them later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The event that would have started an execution."""

    event_no: int
    name_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The coming to a segment, or the leaving, that would have."""

    transition_no: int
    segment_no: int
    entered: bool


What = Event | Moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What would have started an execution, and when it happened. `hops`: domain/entry.py, Trigger."""

    at: datetime
    what: What
    hops: int = 0


#: The columns of `values_of`, in its order.
COLUMNS = "event_no, name_no, transition_no, segment_no, entered"


def values_of(what: What) -> tuple[int | None, int | None, int | None, int | None, bool | None]:
    match what:
        case Event(event_no=event_no, name_no=name_no):
            return event_no, name_no, None, None, None
        case Moved(transition_no=number, segment_no=segment_no, entered=entered):
            return None, None, number, segment_no, entered


def what_of(row: Record) -> What:
    if row["event_no"] is not None:
        return Event(event_no=row["event_no"], name_no=row["name_no"])
    return Moved(transition_no=row["transition_no"], segment_no=row["segment_no"], entered=row["entered"])
