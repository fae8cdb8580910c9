"""Entries that were triggered and are not decided yet: their journey is paused, or their grace runs.

Whoever holds a subject's row decides about its entries. Those who wait for a journey to be resumed are released, or
dropped, page by page, by somebody who holds no subject and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import origins
from orchestrator.storage.origins import Origin, What

EntryKind = Literal["event", "segment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEntry:
    """`look_at` None: its journey is paused. `grace_until` None: what is asked of the subject has to hold at once.
    `hops`: domain/entry.py, Trigger.
    """

    key: SubjectKey
    journey_id: str
    entry_key: str
    entry_kind: EntryKind
    event_id: str | None
    what: What
    triggered_at: datetime
    held_at: datetime
    grace_until: datetime | None
    look_at: datetime | None
    hops: int = 0
    # what `$entry.` reads
    entry: dict[str, Any] = field(default_factory=dict)

    @property
    def of_a_pause(self) -> bool:
        """Whether it waited for its journey to be resumed, with all the others, and not for the end of its grace."""
        return self.look_at is None or self.look_at != self.grace_until

    @property
    def origin(self) -> Origin:
        """Where it came from, by which it can be decided on again if it is refused."""
        return Origin(at=self.triggered_at, what=self.what, hops=self.hops)


_COLUMNS = f"""
journey_id, entry_key, entry_kind, event_id, triggered_at, entry, held_at, grace_until, look_at, hops, {origins.COLUMNS}
"""

# One probe for each subject, as for the entries of the inbox.
_HOLD = f"""
SELECT h.*
  FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS w (project_no, bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT project_no, bucket, subject_no, held_no, {_COLUMNS} FROM held_entries
        WHERE project_no = w.project_no AND bucket = w.bucket AND subject_no = w.subject_no
          FOR UPDATE) AS h
 ORDER BY h.held_no
"""


async def hold(conn: Connection[Record], keys: Sequence[SubjectKey]) -> list[HeldEntry]:
    """What is held of these subjects, whose rows the caller holds, in the order in which it was triggered. Nobody else
    releases or drops it before the transaction ends.
    """
    rows = await conn.fetch(_HOLD, [k.project_no for k in keys], [k.bucket for k in keys], [k.subject_no for k in keys])
    return [_entry(row) for row in rows]


_NEWEST = f"""
SELECT project_no, bucket, subject_no, {_COLUMNS} FROM held_entries
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND journey_id = $4
 ORDER BY held_no DESC
 LIMIT $5
"""


async def newest(conn: Connection[Record], key: SubjectKey, journey_id: str, limit: int) -> list[HeldEntry]:
    """What is held of a subject for a journey, newest first."""
    rows = await conn.fetch(_NEWEST, key.project_no, key.bucket, key.subject_no, journey_id, limit)
    return [_entry(row) for row in rows]


# Distinct, since the index does not have them so, and few.
_DUE = """
SELECT project_no, bucket, subject_no
  FROM (SELECT project_no, bucket, subject_no, look_at FROM held_entries
         WHERE look_at <= $1 ORDER BY look_at LIMIT $2) AS due
 GROUP BY project_no, bucket, subject_no
 ORDER BY min(look_at)
"""


async def due(conn: Connection[Record], now: datetime, limit: int) -> list[SubjectKey]:
    """The subjects of the `limit` entries that are to be looked at by now, those who have waited longest first."""
    return [SubjectKey(*row) for row in await conn.fetch(_DUE, now, limit)]


_POSTPONE = """
UPDATE held_entries SET look_at = $4 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND look_at < $4
"""


async def postpone(conn: Connection[Record], key: SubjectKey, until: datetime) -> None:
    """Leave a subject alone until then about whose entries nothing can be decided."""
    await conn.execute(_POSTPONE, key.project_no, key.bucket, key.subject_no, until)


_INSERT = f"""
INSERT INTO held_entries (project_no, bucket, subject_no, journey_id, entry_key, entry_kind, event_id, triggered_at,
                          entry, held_at, grace_until, look_at, hops, {origins.COLUMNS})
SELECT * FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::timestamptz[], $9::jsonb[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[],
                     $13::smallint[], $14::bigint[], $15::int[], $16::bigint[], $17::int[], $18::boolean[])
"""


async def insert(conn: Connection[Record], entries: Sequence[HeldEntry]) -> None:
    """Hold these, in order. The caller holds the subjects, and has seen that none is held yet."""
    if entries:
        rows = [
            (
                *_place(e), e.entry_kind, e.event_id, e.triggered_at, e.entry, e.held_at, e.grace_until, e.look_at,
                e.hops, *origins.values_of(e.what),
            )
            for e in entries
        ]  # fmt: skip
        await conn.execute(_INSERT, *map(list, zip(*rows, strict=True)))


_THESE = """
unnest($1::int[], $2::smallint[], $3::bigint[], $4::text[], $5::text[])
    AS w (project_no, bucket, subject_no, journey_id, entry_key)
"""
_SAME = """
h.project_no = w.project_no AND h.bucket = w.bucket AND h.subject_no = w.subject_no AND h.journey_id = w.journey_id
   AND h.entry_key = w.entry_key
"""

_LOOK_AT = f"""
UPDATE held_entries AS h SET look_at = w.look_at
  FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[])
       AS w (project_no, bucket, subject_no, journey_id, entry_key, look_at)
 WHERE {_SAME.strip()}
"""


async def look(conn: Connection[Record], entries: Sequence[HeldEntry]) -> None:
    """Write when these are to be looked at. The caller holds them."""
    if entries:
        rows = [(*_place(e), e.look_at) for e in entries]
        await conn.execute(_LOOK_AT, *map(list, zip(*rows, strict=True)))


_DROP = f"DELETE FROM held_entries AS h USING {_THESE.strip()} WHERE {_SAME.strip()}"


async def drop(conn: Connection[Record], entries: Collection[HeldEntry]) -> None:
    """Hold these no longer: they have been decided. The caller holds them."""
    if entries:
        await conn.execute(_DROP, *map(list, zip(*map(_place, entries), strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingJourney:
    """A journey for whose resumption entries wait. `status` None: it is gone; `ends_at` is its newest version's, as its
    author wrote it.
    """

    project_no: int
    journey_id: str
    status: str | None
    ends_at: str | None


# From one journey to the next, however many entries each has.
_HOLDING = """
WITH RECURSIVE holding AS (
    (SELECT project_no, journey_id FROM held_entries WHERE look_at IS NULL ORDER BY project_no, journey_id LIMIT 1)
    UNION ALL
    SELECT n.project_no, n.journey_id
      FROM holding AS h
     CROSS JOIN LATERAL (
           SELECT project_no, journey_id FROM held_entries
            WHERE look_at IS NULL AND (project_no, journey_id) > (h.project_no, h.journey_id)
            ORDER BY project_no, journey_id LIMIT 1) AS n
)
SELECT h.project_no, h.journey_id, j.status, v.definition ->> 'endsAt' AS ends_at
  FROM holding AS h
  LEFT JOIN journeys AS j ON j.project_no = h.project_no AND j.journey_id = h.journey_id
  LEFT JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
"""


async def holding(conn: Connection[Record]) -> list[HoldingJourney]:
    """The journeys, of all projects, for whose resumption entries wait."""
    return [HoldingJourney(**row) for row in await conn.fetch(_HOLDING)]


_UNDECIDED = "SELECT count(*) FROM (SELECT FROM held_entries WHERE look_at <= $1 LIMIT $2) AS due"


async def undecided(conn: Connection[Record], now: datetime, limit: int) -> int:
    """How many entries are to be looked at by now, counted up to a limit."""
    count: int = await conn.fetchval(_UNDECIDED, now, limit)
    return count


# Whoever holds a subject and what is held of it goes first.
_NEXT = """
SELECT project_no, bucket, subject_no, journey_id, entry_key FROM held_entries
 WHERE project_no = $1 AND journey_id = $2 AND look_at IS NULL
 ORDER BY held_no LIMIT $3
   FOR UPDATE SKIP LOCKED
"""

_RELEASE = f"""
WITH w AS ({_NEXT})
UPDATE held_entries AS h SET look_at = $4 FROM w WHERE {_SAME.strip()}
"""


async def release(conn: Connection[Record], project_no: int, journey_id: str, limit: int, now: datetime) -> int:
    """Have those looked at who have waited longest for this journey; returns how many. The next look decides."""
    return _count(await conn.execute(_RELEASE, project_no, journey_id, limit, now))


_DROP_SOME = f"""
WITH w AS ({_NEXT})
DELETE FROM held_entries AS h USING w WHERE {_SAME.strip()}
RETURNING h.project_no, h.bucket, h.subject_no, h.journey_id, h.entry_key, h.entry_kind, h.event_id, h.triggered_at,
          h.entry, h.held_at, h.grace_until, h.look_at, h.hops, h.event_no, h.name_no, h.transition_no, h.segment_no,
          h.entered
"""


async def drop_some(conn: Connection[Record], project_no: int, journey_id: str, limit: int) -> list[HeldEntry]:
    """Hold some of those no longer who wait for this journey, which is over; returns them."""
    return [_entry(row) for row in await conn.fetch(_DROP_SOME, project_no, journey_id, limit)]


def _place(entry: HeldEntry) -> tuple[int, int, int, str, str]:
    key = entry.key
    return key.project_no, key.bucket, key.subject_no, entry.journey_id, entry.entry_key


def _entry(row: Record) -> HeldEntry:
    return HeldEntry(
        key=SubjectKey(project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"]),
        journey_id=row["journey_id"],
        entry_key=row["entry_key"],
        entry_kind=row["entry_kind"],
        event_id=row["event_id"],
        what=origins.what_of(row),
        triggered_at=row["triggered_at"],
        held_at=row["held_at"],
        grace_until=row["grace_until"],
        look_at=row["look_at"],
        hops=row["hops"],
        entry=row["entry"],
    )


def _count(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[1])
