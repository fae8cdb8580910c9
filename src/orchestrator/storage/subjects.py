"""Subjects in Postgres. Callers own the connection and the transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import bucket_of

_KEYS = """
SELECT s.subject_id, s.bucket, s.subject_no
FROM unnest($2::smallint[], $3::text[]) AS wanted (bucket, subject_id)
JOIN subjects AS s ON s.project_no = $1 AND s.bucket = wanted.bucket AND s.subject_id = wanted.subject_id
"""

# In the order of the ids, so that two writers of the same new subjects wait for each other in one direction only.
_ADD_STUBS = """
INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)
SELECT $1, wanted.bucket, wanted.subject_id, $4, $4
FROM unnest($2::smallint[], $3::text[]) AS wanted (bucket, subject_id)
ORDER BY wanted.bucket, wanted.subject_id COLLATE "C"
ON CONFLICT ON CONSTRAINT subjects_id_key DO NOTHING
"""

_LOCK = """
SELECT s.project_no, s.bucket, s.subject_no
FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS wanted (project_no, bucket, subject_no)
JOIN subjects AS s USING (project_no, bucket, subject_no)
ORDER BY s.project_no, s.bucket, s.subject_no
FOR NO KEY UPDATE OF s
"""

# Class of the advisory locks between deletions (exclusive) and ingest (shared), one for each project.
_DELETION = 0x5AB1EC7


async def find_keys(conn: Connection[Record], project_no: int, subject_ids: Iterable[str]) -> dict[str, SubjectKey]:
    """The keys of those subjects that exist, by id."""
    ids = sorted(set(subject_ids))
    if not ids:
        return {}
    rows = await conn.fetch(_KEYS, project_no, [bucket_of(i) for i in ids], ids)
    return {row[0]: SubjectKey(project_no=project_no, bucket=row[1], subject_no=row[2]) for row in rows}


async def ensure(
    conn: Connection[Record], project_no: int, subject_ids: Iterable[str], now: datetime
) -> dict[str, SubjectKey]:
    """The keys of all these subjects, by id. Those that do not exist are created, without attributes.

    Takes no lock on subjects that exist. A transaction that ensures and locks must ensure first: then no two can
    wait for each other.
    """
    ids = set(subject_ids)
    keys = await find_keys(conn, project_no, ids)
    while missing := sorted((bucket_of(i), i) for i in ids - keys.keys()):
        await conn.execute(_ADD_STUBS, project_no, [b for b, _ in missing], [i for _, i in missing], now)
        # A statement of its own: it sees the rows of writers who came first, for whom the insert has waited.
        keys |= await find_keys(conn, project_no, (i for _, i in missing))
    return keys


async def lock(conn: Connection[Record], keys: Iterable[SubjectKey]) -> list[SubjectKey]:
    """Take the row locks under which everything about a subject is decided, in order; waits for whoever has them.

    Returns the subjects that (still) exist, in lock order. Read only afterwards, in another statement: what was read
    before may have changed meanwhile.
    """
    ordered = sorted(set(keys))
    rows = await conn.fetch(
        _LOCK, [k.project_no for k in ordered], [k.bucket for k in ordered], [k.subject_no for k in ordered]
    )
    return [SubjectKey(project_no=row[0], bucket=row[1], subject_no=row[2]) for row in rows]


async def hold_off_deletion(conn: Connection[Record], project_no: int) -> None:
    """Let no subject of this project be deleted before this transaction ends.

    For those who write about many subjects and decide nothing: it is one lock instead of one for each row. Comes
    before the statement that reads the keys.
    """
    await conn.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", _DELETION, project_no)
