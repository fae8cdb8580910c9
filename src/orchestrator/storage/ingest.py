"""The two statements that take a batch of events in. Rows are touched in one fixed order: writers cannot deadlock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record
from orjson import Fragment

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

# Only aggregates can be in another writer's hand. Postgres writes the main statement first and the others from the last
# to the first: aggregates come at the end, so that their rows are held only briefly. Each is written in key order.
_STORE = """
WITH batch AS MATERIALIZED (
    SELECT nextval('events_no') AS event_no, batch.*
    FROM unnest($2::timestamptz[], $3::int[], $4::bigint[], $5::smallint[], $6::text[], $7::jsonb[])
        AS batch (occurred_at, name_no, subject_no, bucket, event_id, properties)
), days AS (
    INSERT INTO subject_event_days AS kept (subject_no, first_at, last_at, day, total, project_no, name_no, bucket)
    SELECT subject_no, min(occurred_at), max(occurred_at), (occurred_at AT TIME ZONE 'UTC')::date AS day, count(*),
        $1, name_no, bucket
    FROM batch
    GROUP BY bucket, subject_no, name_no, day
    ORDER BY bucket, subject_no, name_no, day
    ON CONFLICT (project_no, bucket, subject_no, name_no, day) DO UPDATE SET
        total = kept.total + excluded.total,
        first_at = LEAST(kept.first_at, excluded.first_at),
        last_at = GREATEST(kept.last_at, excluded.last_at)
), state AS (
    INSERT INTO subject_event_state AS kept (subject_no, total, first_at, last_at, project_no, name_no, bucket)
    SELECT subject_no, count(*), min(occurred_at), max(occurred_at), $1, name_no, bucket
    FROM batch
    GROUP BY bucket, subject_no, name_no
    ORDER BY bucket, subject_no, name_no
    ON CONFLICT (project_no, bucket, subject_no, name_no) DO UPDATE SET
        total = kept.total + excluded.total,
        first_at = LEAST(kept.first_at, excluded.first_at),
        last_at = GREATEST(kept.last_at, excluded.last_at)
), told AS (
    {inbox}
)
INSERT INTO events (occurred_at, event_no, project_no, name_no, subject_no, bucket, received_at, event_id, properties)
SELECT occurred_at, event_no, $1, name_no, subject_no, bucket, $8, event_id, properties FROM batch
"""

# One row for each subject, its events in order of arrival.
_TELL_EVENTS = """
    INSERT INTO inbox (project_no, bucket, subject_no, kind, name_nos, event_nos, occurred_ats, received_at)
    SELECT $1, bucket, subject_no, 'events', array_agg(name_no ORDER BY event_no),
        array_agg(event_no ORDER BY event_no), array_agg(occurred_at ORDER BY event_no), $8
    FROM batch
    GROUP BY bucket, subject_no
"""

# The past has changed, nothing has happened.
_TELL_BACKFILL = """
    INSERT INTO inbox (project_no, bucket, subject_no, kind, received_at)
    SELECT $1, bucket, subject_no, 'backfill', $8
    FROM batch
    GROUP BY bucket, subject_no
"""

_STORE_EVENTS = _STORE.format(inbox=_TELL_EVENTS.strip())
_STORE_BACKFILL = _STORE.format(inbox=_TELL_BACKFILL.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Events as parallel lists, in order of arrival. `properties` are texts of JSON objects."""

    occurred_ats: Sequence[datetime]
    name_nos: Sequence[int]
    subject_nos: Sequence[int]
    buckets: Sequence[int]
    event_ids: Sequence[str]
    properties: Sequence[bytes]


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


async def store(conn: Connection[Record], project_no: int, events: Columns, *, backfill: bool, now: datetime) -> None:
    """Store claimed events, count them, and tell the inbox.

    A partition exists for each month in `occurred_ats`, and none of them is later than `now`.
    """
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
    )
