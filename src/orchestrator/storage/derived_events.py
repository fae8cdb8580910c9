"""Kinds of events (`where`) in Postgres: registered once, counted by ingest from then on, and backwards by a backfill.

Callers own the connection and the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncpg import Connection, Record
from orjson import Fragment

from orchestrator.domain.derived_event import DerivedEvent, DerivedEvents
from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.faults import Unreadable
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import EventFired, Predicate, Source
from orchestrator.storage import clock, event_names, subjects
from orchestrator.storage.event_names import numbers_of, where_hash
from orchestrator.storage.ingest import Taken

# In order, so that two registrations wait for each other in one direction only.
_ADD = """
INSERT INTO derived_events (project_no, base_no, where_sha256, predicate, created_at, leased_until)
SELECT $1, base_no, where_sha256, predicate, $5, $5
  FROM unnest($2::int[], $3::bytea[], $4::jsonb[]) AS wanted (base_no, where_sha256, predicate)
 ORDER BY base_no, where_sha256
ON CONFLICT ON CONSTRAINT derived_events_where_key DO NOTHING
"""


async def ensure(conn: Connection[Record], project_no: int, sources: Iterable[Source]) -> Mapping[Source, int]:
    """The numbers of all these sources. Names and kinds without one are given one, and are counted from now on.

    Where a kind is new, ingest into the project waits until this transaction ends.
    """
    wanted = set(sources)
    base_nos = await event_names.ensure(conn, project_no, {source.name for source in wanted if source.name is not None})
    numbers = await numbers_of(conn, project_no, wanted)
    if missing := wanted - numbers.keys():
        # Who has taken events in without knowing of these kinds has committed now: the backfill sees those events.
        await subjects.hold_off_ingest(conn, project_no)
        kinds = [(source.name, source.where) for source in missing]
        await conn.execute(
            _ADD,
            project_no,
            [base_nos[name] for name, _ in kinds if name is not None],
            [where_hash(where) for _, where in kinds if where is not None],
            [Fragment(where.text) for _, where in kinds if where is not None],
            await clock.now(conn),
        )
        numbers |= await numbers_of(conn, project_no, missing)
    return numbers


_OF_PROJECT = "SELECT name_no, base_no, predicate FROM derived_events WHERE project_no = $1 ORDER BY name_no"


async def of_project(conn: Connection[Record], project_no: int) -> DerivedEvents:
    """All kinds of events of the project."""
    kinds, unreadable = [], {}
    for row in await conn.fetch(_OF_PROJECT, project_no):
        try:
            where = _where(row["predicate"])
        except Unreadable:
            unreadable[row["base_no"]] = row["name_no"]
        else:
            kinds.append(DerivedEvent(name_no=row["name_no"], base_no=row["base_no"], where=where))
    return DerivedEvents(kinds, unreadable)


_UNCOUNTED = """
SELECT n.name, d.predicate
  FROM derived_events AS d
  JOIN event_names AS n ON n.project_no = d.project_no AND n.name_no = d.base_no
 WHERE d.project_no = $1 AND d.ready_at IS NULL
"""


async def uncounted(conn: Connection[Record], project_no: int) -> frozenset[Source]:
    """The kinds of events whose past is still being counted: their numbers say too little."""
    return frozenset(_source(row["name"], row["predicate"]) for row in await conn.fetch(_UNCOUNTED, project_no))


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A kind whose past is being counted. Done are the buckets before this one, and in it subjects up to this one."""

    project_no: int
    name_no: int
    base_no: int
    where: Predicate
    bucket: int
    subject_no: int


# The one this process was at comes first. Its row is held until the transaction ends: nobody else counts it meanwhile.
_TAKE = """
UPDATE derived_events AS d
   SET leased_until = $1::timestamptz + $2::interval
  FROM (SELECT project_no, name_no
          FROM derived_events
         WHERE ready_at IS NULL AND (leased_until <= $1 OR (project_no, name_no) = ($3, $4))
         ORDER BY (project_no, name_no) = ($3, $4) DESC, leased_until
         LIMIT 1
           FOR NO KEY UPDATE SKIP LOCKED) AS next
 WHERE (d.project_no, d.name_no) = (next.project_no, next.name_no)
RETURNING d.project_no, d.name_no, d.base_no, d.predicate, d.bucket, d.subject_no
"""


async def take(
    conn: Connection[Record], now: datetime, lease: timedelta, mine: tuple[int, int] = (-1, -1)
) -> Building | None:
    """A kind whose past is to be counted, for this transaction, and then for `lease`; None: there is none for now.

    `mine`: project and number of the one that the caller took last.
    """
    row = await conn.fetchrow(_TAKE, now, lease, *mine)
    return _building(row) if row else None


_BUILDING = """
SELECT project_no, name_no, base_no, predicate, bucket, subject_no
  FROM derived_events
 WHERE project_no = $1 AND ready_at IS NULL
"""


async def building(conn: Connection[Record], project_no: int) -> list[Building]:
    """The kinds of the project whose past is being counted."""
    return [_building(row) for row in await conn.fetch(_BUILDING, project_no)]


_SUBJECTS = """
SELECT subject_no, total
  FROM subject_event_state
 WHERE project_no = $1 AND bucket = $2 AND subject_no > $3 AND name_no = $4
 ORDER BY subject_no
 LIMIT $5
"""


async def subjects_behind(
    conn: Connection[Record], kind: Building, bucket: int, subject_no: int, limit: int
) -> list[tuple[int, int]]:
    """(number, how many events of the name) of the next subjects of this bucket that have any."""
    rows = await conn.fetch(_SUBJECTS, kind.project_no, bucket, subject_no, kind.base_no, limit)
    return [(row["subject_no"], row["total"]) for row in rows]


# An event whose copy ingest made came with it. So they are read in this order, and none is taken for uncounted.
_EVENTS = """
SELECT w.bucket, w.subject_no, e.occurred_at, e.event_no, e.received_at, e.event_id, e.properties
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT occurred_at, event_no, received_at, event_id, properties
         FROM events
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no AND name_no = $4
          AND occurred_at >= $5 AND (occurred_at, event_no) > ($5, $6::bigint)
        ORDER BY occurred_at, event_no
        LIMIT $7) AS e
"""

_COPIED = """
SELECT e.event_no
  FROM unnest($2::smallint[], $3::bigint[]) AS w (bucket, subject_no)
 CROSS JOIN LATERAL (
       SELECT event_no
         FROM events
        WHERE project_no = $1 AND bucket = w.bucket AND subject_no = w.subject_no AND name_no = $4
          AND occurred_at BETWEEN $5 AND $6
       OFFSET 0) AS e
"""

_FIRST = datetime.min.replace(tzinfo=UTC)


async def events_of(
    conn: Connection[Record],
    kind: Building,
    keys: Sequence[SubjectKey],
    *,
    after: Taken | None = None,
    limit: int | None = None,
) -> list[tuple[Taken, dict[str, Any]]]:
    """Events of the kind's name, with their properties, of subjects the caller holds; of each subject the oldest first.

    `after` and `limit` are for one subject with very many.
    """
    rows = await conn.fetch(
        _EVENTS, kind.project_no, [key.bucket for key in keys], [key.subject_no for key in keys], kind.base_no,
        after.occurred_at if after else _FIRST, after.event_no if after else 0, limit,
    )  # fmt: skip
    return [(Taken(**dict(list(row.items())[:-1])), row["properties"]) for row in rows]


async def counted_already(
    conn: Connection[Record], kind: Building, keys: Sequence[SubjectKey], events: Sequence[Taken]
) -> set[int]:
    """The numbers of those events that have been counted as of this kind, among others. To be read after them."""
    ats = [event.occurred_at for event in events]
    rows = await conn.fetch(
        _COPIED, kind.project_no, [key.bucket for key in keys], [key.subject_no for key in keys], kind.name_no,
        min(ats), max(ats),
    )  # fmt: skip
    return {row["event_no"] for row in rows}


_ADVANCE = "UPDATE derived_events SET bucket = $3, subject_no = $4 WHERE project_no = $1 AND name_no = $2"
_FINISH = "UPDATE derived_events SET ready_at = $3 WHERE project_no = $1 AND name_no = $2"


async def advance(conn: Connection[Record], kind: Building, bucket: int, subject_no: int) -> None:
    """All subjects of this bucket up to this one have been counted, and those of the buckets before."""
    await conn.execute(_ADVANCE, kind.project_no, kind.name_no, bucket, subject_no)


async def finish(conn: Connection[Record], kind: Building, now: datetime) -> None:
    """Every subject has been counted: from now on the kind's number says all."""
    await conn.execute(_FINISH, kind.project_no, kind.name_no, now)


_COUNT = "SELECT count(*) FROM derived_events WHERE project_no = $1"


async def count(conn: Connection[Record], project_no: int) -> int:
    """How many kinds of events of the project are counted."""
    return int(await conn.fetchval(_COUNT, project_no))


_PROJECTS = "SELECT DISTINCT project_no FROM derived_events ORDER BY project_no"


async def projects(conn: Connection[Record]) -> list[int]:
    """Those in which kinds of events are counted."""
    return [row["project_no"] for row in await conn.fetch(_PROJECTS)]


async def unreadable(conn: Connection[Record], project_no: int) -> list[int]:
    """The numbers of kinds of the project that do not read."""
    found = []
    for row in await conn.fetch(_OF_PROJECT, project_no):
        try:
            _where(row["predicate"])
        except Unreadable:
            found.append(row["name_no"])
    return found


_OLDER = """
SELECT d.name_no, n.name, d.predicate
  FROM derived_events AS d
  JOIN event_names AS n ON n.project_no = d.project_no AND n.name_no = d.base_no
 WHERE d.project_no = $1 AND d.created_at < $2
"""


async def older(conn: Connection[Record], project_no: int, before: datetime) -> dict[Source, int]:
    """The kinds of the project that were registered before then, with their numbers."""
    rows = await conn.fetch(_OLDER, project_no, before)
    return {_source(row["name"], row["predicate"]): row["name_no"] for row in rows}


def _building(row: Record) -> Building:
    return Building(
        project_no=row["project_no"],
        name_no=row["name_no"],
        base_no=row["base_no"],
        where=_where(row["predicate"]),
        bucket=row["bucket"],
        subject_no=row["subject_no"],
    )


def _source(name: str, where: Any) -> Source:
    """As the language reads it."""
    predicate, faults = parse({"kind": "event_fired", "eventName": name, "where": where})
    if not isinstance(predicate, EventFired):
        raise Unreadable("a stored kind of events", faults)
    return predicate.source


def _where(document: Any) -> Predicate:
    where = _source("any", document).where
    assert where is not None
    return where.predicate
