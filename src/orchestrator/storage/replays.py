"""The past of subjects, as a backtest reads it. In a transaction that writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.gates import Counted
from orchestrator.domain.scope import SubjectKey

_SUBJECTS = """
SELECT DISTINCT e.bucket, e.subject_no
  FROM event_names AS n
  JOIN events AS e
    ON e.project_no = $1 AND e.bucket BETWEEN $2 AND $3 AND e.name_no = n.name_no
   AND e.occurred_at >= $5 AND e.occurred_at < $6
 WHERE n.project_no = $1 AND n.name = $4
 ORDER BY e.bucket, e.subject_no
"""


async def subjects(
    conn: Connection[Record],
    project_no: int,
    first: int,
    last: int,
    event_name: str,
    since: datetime,
    until: datetime,
) -> list[SubjectKey]:
    """Those of buckets `first` to `last` to whom such an event has occurred, from `since` on and before `until`."""
    rows = await conn.fetch(_SUBJECTS, project_no, first, last, event_name, since, until)
    return [SubjectKey(project_no=project_no, bucket=row[0], subject_no=row[1]) for row in rows]


_MOVED = """
SELECT DISTINCT t.bucket, t.subject_no
  FROM segments AS s
  JOIN segment_transitions AS t
    ON t.project_no = $1 AND t.bucket BETWEEN $2 AND $3 AND t.segment_no = s.segment_no
   AND t.entered = $5 AND t.cause = ANY ($6::text[]) AND t.as_of >= $7 AND t.as_of < $8
 WHERE s.project_no = $1 AND s.segment_id = $4
 ORDER BY t.bucket, t.subject_no
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way in or out of a segment, taken for one of these causes."""

    segment_id: str
    entered: bool
    causes: tuple[str, ...]


async def movers(
    conn: Connection[Record], project_no: int, first: int, last: int, way: Way, since: datetime, until: datetime
) -> list[SubjectKey]:
    """Those of buckets `first` to `last` who went that way, from `since` on and before `until`."""
    rows = await conn.fetch(
        _MOVED, project_no, first, last, way.segment_id, way.entered, list(way.causes), since, until
    )
    return [SubjectKey(project_no=project_no, bucket=row[0], subject_no=row[1]) for row in rows]


_TRANSITIONS = """
SELECT w.bucket, w.subject_no, t.as_of, t.transition_no
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
  JOIN segments AS s ON s.project_no = $1 AND s.segment_id = $4
  JOIN segment_transitions AS t
    ON t.project_no = $1 AND t.bucket = w.bucket AND t.subject_no = w.subject_no AND t.segment_no = s.segment_no
   AND t.entered = $5 AND t.cause = ANY ($6::text[]) AND t.as_of >= $7 AND t.as_of < $8
 ORDER BY t.as_of, t.transition_no
"""


async def transitions(
    conn: Connection[Record], keys: Sequence[SubjectKey], way: Way, since: datetime, until: datetime
) -> dict[SubjectKey, list[tuple[datetime, int]]]:
    """(instant, number) of each time that these subjects went that way, from `since` on and before `until`."""
    found: dict[SubjectKey, list[tuple[datetime, int]]] = {key: [] for key in keys}
    rows = await conn.fetch(
        _TRANSITIONS,
        keys[0].project_no,
        [key.bucket for key in keys],
        [key.subject_no for key in keys],
        way.segment_id,
        way.entered,
        list(way.causes),
        since,
        until,
    )
    for bucket, subject_no, as_of, number in rows:
        found[_key(keys, bucket, subject_no)].append((as_of, number))
    return found


@dataclass(frozen=True, slots=True)
class Event:
    """What happened."""

    name: str
    event_id: str
    occurred_at: datetime
    properties: dict[str, Any]


_EVENTS = """
SELECT w.bucket, w.subject_no, n.name, e.event_id, e.occurred_at, e.properties
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT name_no, event_id, occurred_at, event_no, properties FROM events
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no
          AND name_no = ANY (ARRAY(SELECT name_no FROM event_names
                                    WHERE project_no = $1 AND ($4::text[] IS NULL OR name = ANY ($4))))
          AND occurred_at < $5
        ORDER BY occurred_at DESC, event_no DESC
        LIMIT $6) AS e
  JOIN event_names AS n ON n.project_no = $1 AND n.name_no = e.name_no
 ORDER BY w.bucket, w.subject_no, e.occurred_at, e.event_no
"""


async def events(
    conn: Connection[Record],
    keys: Sequence[SubjectKey],
    names: Collection[str] | None,
    until: datetime,
    *,
    most: int,
) -> dict[SubjectKey, list[Event]]:
    """The newest `most` events of each of these subjects, of these names (None: of any), before `until`;
    in the order in which they occurred."""
    found: dict[SubjectKey, list[Event]] = {key: [] for key in keys}
    rows = await conn.fetch(
        _EVENTS,
        keys[0].project_no,
        [key.bucket for key in keys],
        [key.subject_no for key in keys],
        sorted(names) if names is not None else None,
        until,
        most,
    )
    for bucket, subject_no, *event in rows:
        found[_key(keys, bucket, subject_no)].append(Event(*event))
    return found


_ENTRIES = """
SELECT w.bucket, w.subject_no, e.entry_key, e.triggered_at
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
  JOIN enrollments AS e
    ON e.project_no = $1 AND e.bucket = w.bucket AND e.subject_no = w.subject_no AND e.journey_id = $4
   AND e.triggered_at < $5
"""


async def entries(
    conn: Connection[Record], keys: Sequence[SubjectKey], journey_id: str, until: datetime
) -> dict[SubjectKey, list[tuple[str, datetime]]]:
    """(entry key, trigger's instant) of the entries of these subjects, triggered before then."""
    found: dict[SubjectKey, list[tuple[str, datetime]]] = {key: [] for key in keys}
    rows = await conn.fetch(
        _ENTRIES, keys[0].project_no, [k.bucket for k in keys], [k.subject_no for k in keys], journey_id, until
    )
    for bucket, subject_no, entry_key, triggered_at in rows:
        found[_key(keys, bucket, subject_no)].append((entry_key, triggered_at))
    return found


_MESSAGES = """
SELECT w.bucket, w.subject_no, s.channel, s.category, s.reserved_at
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
  JOIN sends AS s
    ON s.project_no = $1 AND s.bucket = w.bucket AND s.subject_no = w.subject_no AND s.state <> 'failed'
   AND s.reserved_at > $5 AND (s.journey_id <> $4 OR s.reserved_at < $6)
"""


async def messages(
    conn: Connection[Record], keys: Sequence[SubjectKey], journey_id: str, since: datetime, replayed_from: datetime
) -> dict[SubjectKey, list[Counted]]:
    """The messages of these subjects that count for caps, later than `since`; those of this journey only
    up to when it is replayed."""
    found: dict[SubjectKey, list[Counted]] = {key: [] for key in keys}
    rows = await conn.fetch(
        _MESSAGES,
        keys[0].project_no,
        [key.bucket for key in keys],
        [key.subject_no for key in keys],
        journey_id,
        since,
        replayed_from,
    )
    for bucket, subject_no, channel, category, reserved_at in rows:
        message = Counted(channel=channel, category=category, at=reserved_at)
        found[_key(keys, bucket, subject_no)].append(message)
    return found


def _key(keys: Sequence[SubjectKey], bucket: int, subject_no: int) -> SubjectKey:
    return SubjectKey(project_no=keys[0].project_no, bucket=bucket, subject_no=subject_no)
