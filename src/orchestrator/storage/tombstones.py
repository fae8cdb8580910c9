"""Ids of subjects that were forgotten, as keyed hashes: whoever would create a subject comes by here.

An id is asked about only when it is nobody's, so that what is known costs nothing. The hash is made by Postgres, which
has the key (migrations/0027_erasures.sql).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from asyncpg import Connection, Record

# One by one, as in storage/subjects.py.
_AMONG = """
SELECT w.subject_id
FROM unnest($2::text[]) AS w (subject_id)
CROSS JOIN LATERAL (
    SELECT FROM tombstones WHERE project_no = $1 AND subject_hash = tombstone_hash($1, w.subject_id) OFFSET 0
) AS t
"""


async def among(conn: Connection[Record], project_no: int, subject_ids: Iterable[str]) -> set[str]:
    """Those of these ids that belonged to somebody who was forgotten."""
    ids = sorted(subject_ids)
    return {row[0] for row in await conn.fetch(_AMONG, project_no, ids)} if ids else set()


_FIND = "SELECT erasure_id FROM tombstones WHERE project_no = $1 AND subject_hash = tombstone_hash($1, $2)"


async def find(conn: Connection[Record], project_no: int, subject_id: str) -> str | None:
    """By which erasure the id was forgotten; None when it was not, or has been let in again."""
    found: str | None = await conn.fetchval(_FIND, project_no, subject_id)
    return found


_ADD = """
INSERT INTO tombstones (project_no, subject_hash, erasure_id, made_at)
SELECT $1, tombstone_hash($1, id), $3, $4 FROM unnest($2::text[]) AS id
ON CONFLICT DO NOTHING
"""


async def add(
    conn: Connection[Record], project_no: int, subject_ids: Sequence[str], erasure_id: str, now: datetime
) -> None:
    """Take these ids in no more."""
    await conn.execute(_ADD, project_no, list(subject_ids), erasure_id, now)


# What a lifted erasure that is not done yet still has would be let in with it.
_ADD_HASHES = """
INSERT INTO tombstones AS t (project_no, subject_hash, erasure_id, made_at)
SELECT $1, hash, $3, $4 FROM unnest($2::bytea[]) AS hash
ON CONFLICT (project_no, subject_hash) DO UPDATE SET erasure_id = excluded.erasure_id, made_at = excluded.made_at
 WHERE EXISTS (SELECT FROM erasures AS e
                WHERE e.project_no = t.project_no AND e.erasure_id = t.erasure_id AND e.lifted_at IS NOT NULL)
"""


async def add_hashes(
    conn: Connection[Record], project_no: int, hashes: Sequence[bytes], erasure_id: str, now: datetime
) -> None:
    """`add`, of ids of which nothing but their hashes is known; those of an erasure that was lifted are this one's from
    now on.
    """
    await conn.execute(_ADD_HASHES, project_no, list(hashes), erasure_id, now)


_HASHES = "SELECT subject_hash FROM tombstones WHERE project_no = $1 AND erasure_id = $2 ORDER BY subject_hash"


async def hashes(conn: Connection[Record], project_no: int, erasure_id: str) -> list[bytes]:
    """Of the ids that an erasure forgot."""
    return [row[0] for row in await conn.fetch(_HASHES, project_no, erasure_id)]


_COUNT = """
UPDATE tombstones AS t SET refused = refused + w.times, refused_at = $4
  FROM (SELECT tombstone_hash($1, id) AS subject_hash, times
          FROM unnest($2::text[], $3::bigint[]) AS asked (id, times)) AS w
 WHERE t.project_no = $1 AND t.subject_hash = w.subject_hash
"""


async def count(conn: Connection[Record], project_no: int, refused: Mapping[str, int], now: datetime) -> None:
    """So often each of these ids has come back, and was refused."""
    # One after the other, in order: two who count wait for each other in one direction only.
    for subject_id, times in sorted(refused.items()):
        await conn.execute(_COUNT, project_no, [subject_id], [times], now)


_LIFT = "DELETE FROM tombstones WHERE project_no = $1 AND erasure_id = $2"


async def lift(conn: Connection[Record], project_no: int, erasure_id: str) -> None:
    """Take in again whatever this erasure forgot."""
    await conn.execute(_LIFT, project_no, erasure_id)


# The ids that are stored, of subjects and of those merged into them, against hashes that a ledger names.
_NAMED = """
WITH known AS MATERIALIZED (
    SELECT subject_id, tombstone_hash($1, subject_id) AS hash FROM subjects WHERE project_no = $1 AND bucket = $2
    UNION ALL
    SELECT alias_id, tombstone_hash($1, alias_id) FROM subject_aliases WHERE project_no = $1 AND alias_bucket = $2
)
SELECT known.subject_id, known.hash FROM known JOIN unnest($3::bytea[]) AS wanted (hash) ON wanted.hash = known.hash
"""


async def named(conn: Connection[Record], project_no: int, bucket: int, hashes: Sequence[bytes]) -> dict[str, bytes]:
    """The ids in this bucket whose hashes these are. Every id of the bucket is hashed for it."""
    return dict(map(tuple, await conn.fetch(_NAMED, project_no, bucket, list(hashes))))
