"""The newest events of subjects, as executions look back at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey

_LAST_NO = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """At most `limit` events of a name, newest first: later than `since`, none later than `until` (None: now).

    Of those that occurred at `until`, only those numbered below `before_no`. Properties are read if `whole`.
    """

    key: SubjectKey
    event_name: str
    since: datetime
    until: datetime | None = None
    before_no: int = _LAST_NO
    limit: int = 1
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """An event. `properties` are empty unless they were asked for."""

    event_no: int
    occurred_at: datetime
    properties: dict[str, Any]


# One probe for each, as in storage/subjects.py.
_NEWEST = """
SELECT w.place - 1 AS place, e.event_no, e.occurred_at, e.properties
  FROM unnest($2::smallint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bigint[], $8::int[],
              $9::bool[])
       WITH ORDINALITY AS w (bucket, subject_no, name, since, until, before_no, "limit", whole, place)
 CROSS JOIN LATERAL (SELECT name_no FROM event_names WHERE project_no = $1 AND name = w.name OFFSET 0) AS n
 CROSS JOIN LATERAL (
       SELECT event_no, occurred_at, CASE WHEN w.whole THEN properties ELSE '{}' END AS properties
         FROM events
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no AND name_no = n.name_no
          AND occurred_at > w.since AND occurred_at <= coalesce(w.until, 'infinity')
          AND (occurred_at, event_no) < (coalesce(w.until, 'infinity'), w.before_no)
        ORDER BY occurred_at DESC, event_no DESC
        LIMIT w."limit") AS e
 ORDER BY w.place, e.occurred_at DESC, e.event_no DESC
"""


async def newest(conn: Connection[Record], project_no: int, looks: Sequence[Look]) -> list[list[Seen]]:
    """What there is to see, for each look."""
    rows = await conn.fetch(
        _NEWEST, project_no, [look.key.bucket for look in looks], [look.key.subject_no for look in looks],
        [look.event_name for look in looks], [look.since for look in looks], [look.until for look in looks],
        [look.before_no for look in looks], [look.limit for look in looks], [look.whole for look in looks],
    )  # fmt: skip
    seen: list[list[Seen]] = [[] for _ in looks]
    for place, event_no, occurred_at, properties in rows:
        seen[place].append(Seen(event_no, occurred_at, properties))
    return seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurred:
    """An event, whole."""

    event_id: str
    occurred_at: datetime
    received_at: datetime
    properties: dict[str, Any]


_RECENT = """
SELECT e.event_id, e.occurred_at, e.received_at, e.properties
  FROM (SELECT name_no FROM event_names WHERE project_no = $1 AND name = $4 OFFSET 0) AS n
 CROSS JOIN LATERAL (
       SELECT * FROM events
        WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND name_no = n.name_no
        ORDER BY occurred_at DESC, event_no DESC
        LIMIT $5) AS e
 ORDER BY e.occurred_at DESC, e.event_no DESC
"""


async def recent(conn: Connection[Record], key: SubjectKey, event_name: str, limit: int) -> list[Occurred]:
    """A subject's newest events of a name, newest first."""
    rows = await conn.fetch(_RECENT, key.project_no, key.bucket, key.subject_no, event_name, limit)
    return [Occurred(**row) for row in rows]
