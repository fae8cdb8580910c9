"""Removing what has had its time: keys by which repeats are known, and events that are not kept for ever."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from itertools import pairwise

from asyncpg import Connection, Record

from orchestrator.storage.refused_entries import KEPT_FOR as REFUSED_KEPT

#: How long an answer is kept for a repeat of its request.
REQUESTS_KEPT = timedelta(days=7)

#: How long an event id is remembered.
EVENTS_KNOWN = timedelta(days=30)


class Turn(IntEnum):
    """What only one process at a time is at."""

    REQUESTS = 1
    EVENT_IDS = 2
    REFUSED_ENTRIES = 3
    SEND_TALLIES = 4
    SENT_TESTS = 5
    SEGMENT_RUNS = 6
    STAYS = 7
    SIZES = 8
    REFUSAL_COUNTS = 9
    MONTHS = 10


# Class of their advisory locks.
_TURNS = 0x0DD7


async def take_turn(conn: Connection[Record], turn: Turn) -> bool:
    """Whether this transaction may do it: until it ends, nobody else may."""
    free: bool = await conn.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", _TURNS, turn.value)
    return free


# By the index that begins with the project, each of them for itself.
_REQUESTS = """
WITH RECURSIVE answered (project_no) AS (
    SELECT min(project_no) FROM idempotency
     UNION ALL
    SELECT (SELECT min(i.project_no) FROM idempotency AS i WHERE i.project_no > answered.project_no)
      FROM answered WHERE answered.project_no IS NOT NULL
)
DELETE FROM idempotency WHERE (project_no, principal, method, request_id) IN (
    SELECT old.project_no, old.principal, old.method, old.request_id
      FROM answered
     CROSS JOIN LATERAL (
           SELECT i.project_no, i.principal, i.method, i.request_id FROM idempotency AS i
            WHERE i.project_no = answered.project_no AND i.created_at < $1
            ORDER BY i.created_at LIMIT $2) AS old
     LIMIT $2)
"""

# Of all partitions those pages that have these numbers.
_EVENT_IDS = "DELETE FROM event_ids WHERE ctid >= $2::tid AND ctid < $3::tid AND received_at < $1"

_PAGES_OF_EVENT_IDS = """
SELECT coalesce(max(pg_relation_size(inhrelid)), 0) / current_setting('block_size')::bigint
  FROM pg_inherits WHERE inhparent = 'event_ids'::regclass
"""

_REFUSED_ENTRIES = """
DELETE FROM refused_entries WHERE (project_no, journey_id, reason, refused_at, refused_no) IN (
    SELECT project_no, journey_id, reason, refused_at, refused_no FROM refused_entries WHERE refused_at < $1 LIMIT $2)
"""


async def forget_requests(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` stored answers that are too old; returns how many."""
    return _count(await conn.execute(_REQUESTS, now - REQUESTS_KEPT, limit))


async def pages_of_event_ids(conn: Connection[Record]) -> int:
    """How many pages the largest partition of event ids has."""
    pages: int = await conn.fetchval(_PAGES_OF_EVENT_IDS)
    return pages


async def forget_event_ids(conn: Connection[Record], now: datetime, pages: range) -> int:
    """Delete the event ids in these pages of each partition that are too old; returns how many."""
    return _count(await conn.execute(_EVENT_IDS, now - EVENTS_KNOWN, (pages.start, 0), (pages.stop, 0)))


async def forget_refused_entries(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` refused entries that are too old; returns how many."""
    return _count(await conn.execute(_REFUSED_ENTRIES, now - REFUSED_KEPT, limit))


_RETAINING = "SELECT project_no FROM projects WHERE settings ->> 'eventRetention' IS NOT NULL ORDER BY project_no"


async def retaining(conn: Connection[Record]) -> list[int]:
    """The projects whose events are not kept for ever."""
    return [row["project_no"] for row in await conn.fetch(_RETAINING)]


_MONTHS = """
SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS first_day
  FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
 WHERE inhparent = 'events'::regclass AND c.relname ~ '^events_\\d{4}_\\d{2}$'
 ORDER BY first_day
"""

_ANY_EVENTS = "SELECT EXISTS (SELECT FROM events WHERE project_no = $1 AND occurred_at >= $2 AND occurred_at < $3)"

# All that occurred before the first month that has a place of its own (migrations/0003_events.sql) stands together.
_BEGINNING = datetime.min.replace(tzinfo=UTC)


async def parts_of_events(conn: Connection[Record], project_no: int, end: datetime) -> list[tuple[datetime, datetime]]:
    """[begin, end) of each month before `end` in which the project may have events."""
    months = [datetime.combine(row["first_day"], time(), UTC) for row in await conn.fetch(_MONTHS)]
    begins = [_BEGINNING, *(month for month in months if month < end)]
    whole = list(pairwise(begins))
    found = [part for part in whole if await conn.fetchval(_ANY_EVENTS, project_no, *part)]
    return [*found, (begins[-1], end)]


# Class of the advisory locks under which a project is cleared.
_CLEARING = 0xC1EA7


async def clear_alone(conn: Connection[Record], project_no: int) -> bool:
    """Keep other processes from clearing this project until the transaction ends; False: one of them is at it."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", _CLEARING, project_no))


_SINCE = "SELECT FROM unnest($6::int[], $7::timestamptz[]) AS kept (name_no, since) WHERE kept.name_no = e.name_no"

_DROP_EVENTS = f"""
DELETE FROM events AS e
 WHERE project_no = $1 AND bucket >= $2 AND bucket < $3 AND occurred_at >= $4 AND occurred_at < $5
   AND NOT EXISTS ({_SINCE} AND e.occurred_at >= kept.since)
"""

_DROP_DAYS = f"""
DELETE FROM subject_event_days AS e
 WHERE project_no = $1 AND bucket >= $2 AND bucket < $3 AND day >= $4 AND day < $5
   AND NOT EXISTS ({_SINCE} AND e.day >= (kept.since AT TIME ZONE 'UTC')::date)
"""


async def drop_events(
    conn: Connection[Record],
    project_no: int,
    buckets: range,
    since: Mapping[int, datetime],
    *,
    begin: datetime,
    end: datetime,
) -> int:
    """Delete the events of these buckets that occurred then, but those whose number is counted since before; how many.

    `since` says of numbers from when on they are counted.
    """
    return _count(
        await conn.execute(
            _DROP_EVENTS, project_no, buckets.start, buckets.stop, begin, end, list(since), list(since.values())
        )
    )


async def drop_days(
    conn: Connection[Record], project_no: int, buckets: range, since: Mapping[int, datetime], *, end: date
) -> int:
    """The same for the counts by day, of the days before `end`."""
    return _count(
        await conn.execute(
            _DROP_DAYS, project_no, buckets.start, buckets.stop, date.min, end, list(since), list(since.values())
        )
    )


async def drop_empty_month(conn: Connection[Record], before: date) -> bool:
    """Drop a month of events, over by then, that holds nothing; whether there was one. In a transaction of its own.

    One that takes up much room still is left until vacuum has given its pages back. Raises LockNotAvailableError where
    somebody is in the way.
    """
    return bool(await conn.fetchval("SELECT drop_empty_events_months($1)", before))


def _count(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[1])
