"""Entries that were refused, as long as they may be decided on again.

Of one journey, reason and hour at most `KEPT * SHARDS` are kept: the ledger of refusals counts them anyway, and its row
is held by whoever adds to it, so the limit is exact. After `KEPT_FOR` they go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import origins
from orchestrator.storage.origins import Origin

#: Of one journey, reason and hour, for each shard of the ledger of refusals.
KEPT = 3125

KEPT_FOR = timedelta(days=7)


#: When an entry was refused, and its number.
Place = tuple[datetime, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEntry:
    place: Place
    key: SubjectKey
    origin: Origin


#: (journey, reason, when, who, what)
Row = tuple[str, str, datetime, SubjectKey, Origin]

_ADD = f"""
INSERT INTO refused_entries (project_no, journey_id, reason, refused_at, bucket, subject_no, occurred_at, hops,
                             {origins.COLUMNS})
SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[], $5::smallint[], $6::bigint[],
                     $7::timestamptz[], $8::smallint[], $9::bigint[], $10::int[], $11::bigint[], $12::int[],
                     $13::boolean[])
"""


async def add(conn: Connection[Record], rows: Sequence[Row]) -> None:
    if not rows:
        return
    columns = [
        (
            key.project_no, journey_id, reason, at, key.bucket, key.subject_no, origin.at, origin.hops,
            *origins.values_of(origin.what),
        )
        for journey_id, reason, at, key, origin in rows
    ]  # fmt: skip
    await conn.execute(_ADD, *map(list, zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Entries of a journey that were refused for one reason in [after, before)."""

    project_no: int
    journey_id: str
    reason: str
    after: datetime
    before: datetime


_OF_SPAN = "project_no = $1 AND journey_id = $2 AND reason = $3 AND refused_at >= $4 AND refused_at < $5"

_COUNT = f"SELECT count(*) FROM refused_entries WHERE {_OF_SPAN}"


async def count(conn: Connection[Record], span: Span) -> int:
    counted: int = await conn.fetchval(_COUNT, span.project_no, span.journey_id, span.reason, span.after, span.before)
    return counted


_COLUMNS = f"refused_at, refused_no, project_no, bucket, subject_no, occurred_at, hops, {origins.COLUMNS}"

_PAGE = f"""
SELECT {_COLUMNS} FROM refused_entries
 WHERE {_OF_SPAN} AND (refused_at, refused_no) > ($6, $7)
 ORDER BY refused_at, refused_no
 LIMIT $8
"""


async def page(conn: Connection[Record], span: Span, after: Place, limit: int) -> list[RefusedEntry]:
    """The next of these entries, oldest first."""
    rows = await conn.fetch(
        _PAGE, span.project_no, span.journey_id, span.reason, span.after, span.before, *after, limit
    )
    return [_entry(row) for row in rows]


_AGAIN = f"""
SELECT {_COLUMNS} FROM refused_entries
 WHERE {_OF_SPAN} AND (refused_at, refused_no) IN (SELECT * FROM unnest($6::timestamptz[], $7::bigint[]))
 ORDER BY refused_at, refused_no
"""


async def again(conn: Connection[Record], span: Span, entries: Sequence[RefusedEntry]) -> list[RefusedEntry]:
    """Those of these entries that are still there, with whose they are by now, oldest first."""
    rows = await conn.fetch(
        _AGAIN, span.project_no, span.journey_id, span.reason, span.after, span.before,
        [entry.place[0] for entry in entries], [entry.place[1] for entry in entries],
    )  # fmt: skip
    return [_entry(row) for row in rows]


_DELETE = f"""
DELETE FROM refused_entries
 WHERE {_OF_SPAN} AND (refused_at, refused_no) IN (SELECT * FROM unnest($6::timestamptz[], $7::bigint[]))
"""


async def delete(conn: Connection[Record], span: Span, entries: Sequence[RefusedEntry]) -> None:
    """Forget those that were let in. The caller holds their subjects."""
    if entries:
        await conn.execute(
            _DELETE, span.project_no, span.journey_id, span.reason, span.after, span.before,
            [entry.place[0] for entry in entries], [entry.place[1] for entry in entries],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How many entries can be decided on again, and when the first and the last of them were refused."""

    total: int
    first_at: datetime
    last_at: datetime


_BY_REASON = """
SELECT reason, count(*) AS total, min(refused_at) AS first_at, max(refused_at) AS last_at
  FROM refused_entries
 WHERE project_no = $1 AND journey_id = $2 AND refused_at >= $3 AND refused_at < $4
 GROUP BY reason
"""


async def by_reason(
    conn: Connection[Record], project_no: int, journey_id: str, after: datetime, before: datetime
) -> Mapping[str, Kept]:
    rows = await conn.fetch(_BY_REASON, project_no, journey_id, after, before)
    return {row["reason"]: Kept(total=row["total"], first_at=row["first_at"], last_at=row["last_at"]) for row in rows}


def _entry(row: Record) -> RefusedEntry:
    return RefusedEntry(
        place=(row["refused_at"], row["refused_no"]),
        key=SubjectKey(project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"]),
        origin=Origin(at=row["occurred_at"], what=origins.what_of(row), hops=row["hops"]),
    )
