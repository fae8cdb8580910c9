"""The statements that take a batch of events in. Rows are touched in one fixed order: writers cannot deadlock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record
from orjson import Fragment

from orchestrator import traces
from orchestrator.domain.scope import SubjectKey

# Kinds of events are added one transaction after the other, with numbers that rise, and given up alone: the highest and
# how many there are tell the set.
_BEGIN = "SELECT clock_timestamp(), max(name_no), count(*) FROM derived_events WHERE project_no = $1"

# Waits for writers who have the same ids in hand; theirs count, if they commit. `place` counts from 1. Subjects are
# looked up one by one: a join would be planned as a scan of them all while the table has no statistics.
_CLAIM = """
WITH batch AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::smallint[], $4::text[])
        WITH ORDINALITY AS batch (event_hash, bucket, subject_id, place)
), fresh AS (
    INSERT INTO event_ids (project_no, event_hash, received_at)
    SELECT $1, event_hash, $5 FROM batch ORDER BY event_hash
    ON CONFLICT DO NOTHING
    RETURNING event_hash
)
SELECT batch.place, (
    SELECT subject_no
    FROM subjects
    WHERE project_no = $1 AND bucket = batch.bucket AND subject_id = batch.subject_id
)
FROM fresh
JOIN batch USING (event_hash)
ORDER BY batch.place
"""

# The batch, and a copy of each event for each kind it is of. `place` counts from 1.
_COUNTED = """
WITH batch AS MATERIALIZED (
    SELECT nextval('events_no') AS event_no, $8::timestamptz AS received_at, batch.*
    FROM unnest($2::timestamptz[], $3::int[], $4::bigint[], $5::smallint[], $6::text[], $7::jsonb[])
        WITH ORDINALITY AS batch (occurred_at, name_no, subject_no, bucket, event_id, properties, place)
), counted AS MATERIALIZED (
    SELECT event_no, received_at, occurred_at, name_no, subject_no, bucket, event_id, properties, false AS is_copy
    FROM batch
    UNION ALL
    SELECT event_no, received_at, occurred_at, copy.name_no, subject_no, bucket, event_id, '{}', true
    FROM unnest($9::bigint[], $10::int[]) AS copy (place, name_no)
    JOIN batch USING (place)
)"""

# Only aggregates can be in another writer's hand. Postgres writes the main statement first and the others from the last
# to the first: aggregates come at the end, so that their rows are held only briefly. Each is written in key order.
_DAYS = """, days AS (
    INSERT INTO subject_event_days AS kept (subject_no, first_at, last_at, day, total, project_no, name_no, bucket)
    SELECT subject_no, min(occurred_at), max(occurred_at), (occurred_at AT TIME ZONE 'UTC')::date AS day, count(*),
        $1, name_no, bucket
    FROM counted
    GROUP BY bucket, subject_no, name_no, day
    ORDER BY bucket, subject_no, name_no, day
    ON CONFLICT (project_no, bucket, subject_no, name_no, day) DO UPDATE SET
        total = kept.total + excluded.total,
        first_at = LEAST(kept.first_at, excluded.first_at),
        last_at = GREATEST(kept.last_at, excluded.last_at)
)"""

_STATE = """, state AS (
    INSERT INTO subject_event_state AS kept (subject_no, total, first_at, last_at, project_no, name_no, bucket)
    {totals}
    ON CONFLICT (project_no, bucket, subject_no, name_no) DO UPDATE SET
        total = kept.total + excluded.total,
        first_at = LEAST(kept.first_at, excluded.first_at),
        last_at = GREATEST(kept.last_at, excluded.last_at)
)"""

# By number, and all together under the number 0, where copies do not count.
_TOTALS = """
    SELECT subject_no, CASE WHEN name_no IS NULL THEN count(*) FILTER (WHERE NOT is_copy) ELSE count(*) END,
        min(occurred_at), max(occurred_at), $1, coalesce(name_no, 0) AS number, bucket
    FROM counted
    GROUP BY bucket, subject_no, ROLLUP (name_no)
    ORDER BY bucket, subject_no, number
"""

# One row for each subject, its events in order of arrival.
_TELL_EVENTS = """, told AS (
    INSERT INTO inbox (project_no, bucket, subject_no, kind, name_nos, event_nos, occurred_ats, received_at, hops,
        trace)
    SELECT $1, bucket, subject_no, 'events', array_agg(name_no ORDER BY event_no),
        array_agg(event_no ORDER BY event_no), array_agg(occurred_at ORDER BY event_no), $8, $11::smallint, $12
    FROM batch
    GROUP BY bucket, subject_no
)"""

# The past has changed, nothing has happened.
_TELL_BACKFILL = """, told AS (
    INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at)
    SELECT $1, bucket, subject_no, 'backfill', $8
    FROM batch
    GROUP BY bucket, subject_no
)"""

_EVENTS = """
INSERT INTO events (occurred_at, event_no, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
SELECT occurred_at, event_no, $1, name_no, subject_no, bucket, received_at, event_id, properties FROM counted
"""

_COUNT = _DAYS + _STATE.format(totals=_TOTALS.strip())
_STORE_EVENTS = _COUNTED + _COUNT + _TELL_EVENTS + _EVENTS
_STORE_BACKFILL = _COUNTED + _COUNT + _TELL_BACKFILL + _EVENTS

_COPIES = """
WITH counted AS MATERIALIZED (
    SELECT copy.*, $2::int AS name_no, '{}'::jsonb AS properties
    FROM unnest($3::smallint[], $4::bigint[], $5::timestamptz[], $6::bigint[], $7::timestamptz[], $8::text[])
        AS copy (bucket, subject_no, occurred_at, event_no, received_at, event_id)
)"""

_COPY_TOTALS = """
    SELECT subject_no, count(*), min(occurred_at), max(occurred_at), $1, name_no, bucket
    FROM counted
    GROUP BY bucket, subject_no, name_no
    ORDER BY bucket, subject_no
"""

_COPY = _COPIES + _DAYS + _STATE.format(totals=_COPY_TOTALS.strip()) + _EVENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Events as parallel lists, in order of arrival. `properties` are texts of JSON objects."""

    occurred_ats: Sequence[datetime]
    name_nos: Sequence[int]
    subject_nos: Sequence[int]
    buckets: Sequence[int]
    event_ids: Sequence[str]
    properties: Sequence[bytes]
    #: (place in the lists, from 0; number of a kind that the event there is of)
    kinds: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """`now` is the database's clock; `kinds` differs whenever other kinds are counted; None: there are none."""

    now: datetime
    kinds: tuple[int, int] | None


async def begin(conn: Connection[Record], project_no: int) -> Begun:
    """The first statement behind `subjects.hold_off_deletion`: later registrations wait until the transaction ends."""
    row = await conn.fetchrow(_BEGIN, project_no)
    assert row is not None
    return Begun(now=row[0], kinds=(row[1], row[2]) if row[2] else None)


async def claim(
    conn: Connection[Record],
    project_no: int,
    *,
    event_hashes: Sequence[str],
    buckets: Sequence[int],
    subject_ids: Sequence[str],
    now: datetime,
) -> list[tuple[int, int | None]]:
    """Which events of a batch are new: (their index, their subject's number; None while there is no such subject).

    The hashes are texts of uuids and differ from each other. Waits for a writer of the same id, and takes the event
    if that one rolls back.
    """
    rows = await conn.fetch(_CLAIM, project_no, event_hashes, buckets, subject_ids, now)
    return [(row[0] - 1, row[1]) for row in rows]


async def store(
    conn: Connection[Record],
    project_no: int,
    events: Columns,
    *,
    backfill: bool,
    now: datetime,
    hops: int | None = None,
) -> None:
    """Store claimed events, count them by name, by kind and altogether, and tell the inbox.

    A partition exists for each month in `occurred_ats`, and none of them is later than `now`. `hops`: domain/entry.py,
    Trigger; None: no execution has told them.
    """
    more = [] if backfill else [hops, traces.carried()]
    await conn.execute(
        _STORE_BACKFILL if backfill else _STORE_EVENTS,
        project_no,
        events.occurred_ats,
        events.name_nos,
        events.subject_nos,
        events.buckets,
        events.event_ids,
        [Fragment(text) for text in events.properties],
        now,
        [place + 1 for place, _ in events.kinds],
        [name_no for _, name_no in events.kinds],
        *more,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An event that was taken in earlier."""

    bucket: int
    subject_no: int
    occurred_at: datetime
    event_no: int
    received_at: datetime
    event_id: str

    def key(self, project_no: int) -> SubjectKey:
        return SubjectKey(project_no=project_no, bucket=self.bucket, subject_no=self.subject_no)


async def copy(conn: Connection[Record], project_no: int, kind: int, events: Sequence[Taken]) -> None:
    """Count these events as events of that kind, too. None of them has been; the caller holds their subjects."""
    await conn.execute(
        _COPY,
        project_no,
        kind,
        [event.bucket for event in events],
        [event.subject_no for event in events],
        [event.occurred_at for event in events],
        [event.event_no for event in events],
        [event.received_at for event in events],
        [event.event_id for event in events],
    )
