"""Subjects in Postgres. Callers own the connection and the transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.attributes import times_of
from orchestrator.domain.refusals import SubjectForgotten
from orchestrator.domain.resource import to_tick
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import Subject, bucket_of
from orchestrator.storage import deleted_subjects, erasing, subject_aliases, tombstones

# Here and below, subjects are looked up one by one (LATERAL with OFFSET 0 or a lock): a plain join would be planned as
# a scan of the whole project while the table has no statistics, and stay so for connections that prepared it then.
# An id is a subject's or an alias, and in one statement nobody can miss both while it becomes an alias.
_KEYS = """
SELECT s.subject_id, s.bucket, s.subject_no
FROM unnest($2::smallint[], $3::text[]) AS wanted (bucket, subject_id)
CROSS JOIN LATERAL (
    SELECT subject_id, bucket, subject_no
    FROM subjects
    WHERE project_no = $1 AND bucket = wanted.bucket AND subject_id = wanted.subject_id
    UNION ALL
    SELECT alias_id, bucket, subject_no
    FROM subject_aliases
    WHERE project_no = $1 AND alias_bucket = wanted.bucket AND alias_id = wanted.subject_id
    OFFSET 0
) AS s
"""

# In the order of the ids, so that two writers of the same new subjects wait for each other in one direction only.
_ADD_STUBS = """
INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)
SELECT $1, wanted.bucket, wanted.subject_id, $4, $4
FROM unnest($2::smallint[], $3::text[]) AS wanted (bucket, subject_id)
ORDER BY wanted.bucket, wanted.subject_id COLLATE "C"
ON CONFLICT ON CONSTRAINT subjects_id_key DO NOTHING
RETURNING subject_id, bucket, subject_no
"""

_REMOVE_STUBS = """
DELETE FROM subjects
USING unnest($2::smallint[], $3::bigint[]) AS stub (bucket, subject_no)
WHERE project_no = $1 AND subjects.bucket = stub.bucket AND subjects.subject_no = stub.subject_no
"""

# In the order of the arrays.
_LOCK = """
SELECT s.project_no, s.bucket, s.subject_no
FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS wanted (project_no, bucket, subject_no)
CROSS JOIN LATERAL (
    SELECT project_no, bucket, subject_no
    FROM subjects
    WHERE project_no = wanted.project_no AND bucket = wanted.bucket AND subject_no = wanted.subject_no
    FOR NO KEY UPDATE
) AS s
"""

_HOLD = """
SELECT subject_id, attributes, time_zone
FROM subjects
WHERE project_no = $1 AND bucket = $2 AND subject_no = $3
FOR NO KEY UPDATE
"""

# Class of the advisory locks between deletions (exclusive) and ingest (shared), one for each project. Who registers a
# kind of events (derived_events.py) takes it as deletions do.
_DELETION = 0x5AB1EC7


async def find_keys(conn: Connection[Record], project_no: int, subject_ids: Iterable[str]) -> dict[str, SubjectKey]:
    """The keys of those subjects that exist, by id; of an id that was merged into another subject, that one's."""
    ids = sorted(set(subject_ids))
    if not ids:
        return {}
    return _keys(project_no, await conn.fetch(_KEYS, project_no, [bucket_of(i) for i in ids], ids))


async def ensure(
    conn: Connection[Record], project_no: int, subject_ids: Iterable[str], now: datetime
) -> dict[str, SubjectKey]:
    """The keys of all these subjects, by id. Those that do not exist are created, without attributes.

    Raises SubjectForgotten with those that must not be.
    Takes no lock on subjects that exist. A transaction that ensures and locks must ensure first: then no two can
    wait for each other.
    """
    keys, _ = await _ensure(conn, project_no, set(subject_ids), now)
    return keys


async def ensure_locked(
    conn: Connection[Record], project_no: int, subject_ids: Iterable[str], now: datetime
) -> tuple[dict[str, SubjectKey], set[str]]:
    """`ensure`, then `lock`: the keys of all these subjects, and the ids of those that were created by it.

    Raises SubjectForgotten.
    """
    ids = set(subject_ids)
    keys, created = await _ensure(conn, project_no, ids, now)
    locked = set(await lock(conn, keys.values()))
    while gone := {i for i in ids if keys[i] not in locked}:
        # Deleted between the two statements.
        others, again = await _ensure(conn, project_no, gone, now)
        locked.update(await lock(conn, others.values()))
        keys |= others
        created |= again
    return keys, created


async def find_locked(conn: Connection[Record], project_no: int, subject_ids: Iterable[str]) -> dict[str, SubjectKey]:
    """`find_keys`, then `lock`: the keys of those of these subjects that exist, by id."""
    keys = await find_keys(conn, project_no, subject_ids)
    locked = set(await lock(conn, keys.values()))
    while gone := {i for i, key in keys.items() if key not in locked}:
        # Deleted, or merged into another, between the two statements.
        others = await find_keys(conn, project_no, gone)
        locked.update(await lock(conn, others.values()))
        keys = {i: key for i, key in keys.items() if i not in gone} | others
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the row of a subject says that this transaction holds."""

    subject_id: str
    attributes: dict[str, Any]
    time_zone: str | None


async def hold(conn: Connection[Record], key: SubjectKey) -> Held | None:
    """`lock` for one subject, with what its row says once the lock is taken; None when there is no such subject.

    Of this row alone it is the latest, however long the lock was waited for; all else is read in another statement.
    """
    row = await conn.fetchrow(_HOLD, key.project_no, key.bucket, key.subject_no)
    return Held(**row) if row else None


async def lock_survivor(conn: Connection[Record], key: SubjectKey) -> SubjectKey | None:
    """`lock` for one subject, or for the one that it was merged into; whose row is held then. None: they are gone."""
    found: SubjectKey | None = key
    while found is not None and not await lock(conn, [found]):
        found = await subject_aliases.survivor(conn, found)
    return found


async def hold_survivor(conn: Connection[Record], key: SubjectKey) -> tuple[SubjectKey, Held] | None:
    """`hold` for one subject, or for the one that it was merged into; None when they are gone."""
    found: SubjectKey | None = key
    while found is not None:
        if (held := await hold(conn, found)) is not None:
            return found, held
        found = await subject_aliases.survivor(conn, found)
    return None


async def hold_off_deletion(conn: Connection[Record], project_no: int) -> None:
    """Let no subject of this project be deleted before this transaction ends.

    For those who write about many subjects and decide nothing: it is one lock instead of one for each row. Comes
    before the statement that reads the keys.
    """
    await conn.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", _DELETION, project_no)


_COLUMNS = """bucket, subject_no, subject_id, attributes, time_zone, revision, created_at, updated_at,
    ARRAY(
        SELECT a.alias_id
        FROM subject_aliases AS a
        WHERE a.project_no = subjects.project_no AND a.bucket = subjects.bucket AND a.subject_no = subjects.subject_no
        ORDER BY a.alias_id
    ) AS alias_ids"""

_FIND = f"SELECT {_COLUMNS} FROM subjects WHERE project_no = $1 AND bucket = $2 AND subject_id = $3"

_FIND_MERGED = f"""
SELECT {_COLUMNS}
FROM subjects
WHERE project_no = $1 AND (bucket, subject_no) = (
    SELECT bucket, subject_no FROM subject_aliases WHERE project_no = $1 AND alias_bucket = $2 AND alias_id = $3)
"""

_READ = f"""
SELECT s.*
FROM unnest($2::smallint[], $3::bigint[]) AS wanted (wanted_bucket, wanted_no)
CROSS JOIN LATERAL (
    SELECT {_COLUMNS}
    FROM subjects
    WHERE project_no = $1 AND bucket = wanted_bucket AND subject_no = wanted_no
    OFFSET 0
) AS s
"""

_PAGE = f"""
SELECT {_COLUMNS}
FROM subjects
WHERE project_no = $1 AND ($2::bigint IS NULL OR subject_no < $2)
ORDER BY subject_no DESC
LIMIT $3
"""

_WRITE = """
UPDATE subjects AS s
SET attributes = w.attributes, attribute_times = w.attribute_times, time_zone = w.time_zone,
    revision = w.revision, updated_at = w.updated_at
FROM unnest($2::smallint[], $3::bigint[], $4::jsonb[], $5::jsonb[], $6::text[], $7::bigint[], $8::timestamptz[])
    AS w (bucket, subject_no, attributes, attribute_times, time_zone, revision, updated_at)
WHERE s.project_no = $1 AND s.bucket = w.bucket AND s.subject_no = w.subject_no
"""


async def find(conn: Connection[Record], project_no: int, subject_id: str) -> tuple[SubjectKey, Subject] | None:
    """The subject with this id, or the one that it was merged into."""
    wanted = (project_no, bucket_of(subject_id), subject_id)
    row = await conn.fetchrow(_FIND, *wanted) or await conn.fetchrow(_FIND_MERGED, *wanted)
    return _subject(project_no, row) if row else None


async def read(conn: Connection[Record], project_no: int, keys: Iterable[SubjectKey]) -> dict[SubjectKey, Subject]:
    """Those of these subjects that exist."""
    wanted = list(keys)
    rows = await conn.fetch(_READ, project_no, [k.bucket for k in wanted], [k.subject_no for k in wanted])
    return dict(_subject(project_no, row) for row in rows)


async def page(
    conn: Connection[Record], project_no: int, *, before: int | None, limit: int
) -> list[tuple[SubjectKey, Subject]]:
    """At most `limit` subjects, newest first, of those created before this number (None: from the newest)."""
    return [_subject(project_no, row) for row in await conn.fetch(_PAGE, project_no, before, limit)]


async def write(conn: Connection[Record], project_no: int, changed: Mapping[SubjectKey, Subject]) -> None:
    """Store attributes, time zone, revision and `updated_at` of subjects whose rows the caller holds."""
    subjects = list(changed.values())
    await conn.execute(
        _WRITE,
        project_no,
        [key.bucket for key in changed],
        [key.subject_no for key in changed],
        [subject.attributes for subject in subjects],
        [times_of(subject.attributes) for subject in subjects],
        [subject.time_zone for subject in subjects],
        [subject.revision for subject in subjects],
        [subject.updated_at for subject in subjects],
    )


_RUNNING = """
SELECT count(*) FROM executions WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND outcome IS NULL
"""

_STOP_INGEST = "SELECT pg_advisory_xact_lock($1, $2)"


async def running_executions(conn: Connection[Record], key: SubjectKey) -> int:
    """How many executions of this subject run. Holds as long as the caller holds the subject's row."""
    return int(await conn.fetchval(_RUNNING, key.project_no, key.bucket, key.subject_no))


async def hold_off_ingest(conn: Connection[Record], project_no: int) -> None:
    """Wait for ingest under way in this project, and hold off what comes until this transaction ends."""
    await conn.execute(_STOP_INGEST, _DELETION, project_no)


async def delete(conn: Connection[Record], key: SubjectKey, now: datetime) -> None:
    """Remove a subject whose row the caller holds, with all that is known about it; no execution of it runs. Of one
    with very many events, or entries, the rest goes in the background: nobody finds it any more.

    Ids of its events are remembered as hashes for as long as those of all events: a repeat does not bring it back.
    """
    await hold_off_ingest(conn, key.project_no)
    await erasing.take_out(conn, key)
    if not await erasing.erase(conn, key):
        await deleted_subjects.add(conn, key, now)


async def _ensure(
    conn: Connection[Record], project_no: int, ids: set[str], now: datetime
) -> tuple[dict[str, SubjectKey], set[str]]:
    keys = await find_keys(conn, project_no, ids)
    created: set[str] = set()
    while missing := sorted((bucket_of(i), i) for i in ids - keys.keys()):
        added = _keys(
            project_no,
            await conn.fetch(_ADD_STUBS, project_no, [b for b, _ in missing], [i for _, i in missing], to_tick(now)),
        )
        if merged := await subject_aliases.find(conn, project_no, added):
            # Created and merged by others between the two statements: the id is an alias, and these stubs are nobody.
            await _remove_stubs(conn, project_no, added, merged)
            added |= merged
        if forgotten := await tombstones.among(conn, project_no, added.keys() - merged.keys()):
            # The same for ids that were forgotten, perhaps while the insert waited.
            await _remove_stubs(conn, project_no, added, forgotten)
            raise SubjectForgotten(forgotten)
        created |= added.keys() - merged.keys()
        keys |= added
        # A statement of its own: it sees the rows of writers who came first, for whom the insert has waited.
        keys |= await find_keys(conn, project_no, (i for _, i in missing if i not in added))
    return keys, created


async def _remove_stubs(
    conn: Connection[Record], project_no: int, added: Mapping[str, SubjectKey], ids: Collection[str]
) -> None:
    await conn.execute(_REMOVE_STUBS, project_no, [added[i].bucket for i in ids], [added[i].subject_no for i in ids])


def _keys(project_no: int, rows: Iterable[Record]) -> dict[str, SubjectKey]:
    return {row[0]: SubjectKey(project_no=project_no, bucket=row[1], subject_no=row[2]) for row in rows}


def _subject(project_no: int, row: Record) -> tuple[SubjectKey, Subject]:
    bucket, subject_no, *columns = row
    names = ("subject_id", "attributes", "time_zone", "revision", "created_at", "updated_at", "alias_ids")
    key = SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)
    *columns, alias_ids = columns
    return key, Subject(**dict(zip(names, [*columns, tuple(alias_ids)], strict=True)))
