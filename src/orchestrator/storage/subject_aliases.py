"""Ids and keys of subjects that were merged into others. Whoever looks a subject up comes by here.

Aliases are few. An alias always leads to a subject that is there: a later merge of that one moves it on, and its
deletion takes it along.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.subject import bucket_of

_FIND = """
SELECT a.alias_id, a.bucket, a.subject_no
FROM unnest($2::smallint[], $3::text[]) AS wanted (bucket, subject_id)
CROSS JOIN LATERAL (
    SELECT alias_id, bucket, subject_no
    FROM subject_aliases
    WHERE project_no = $1 AND alias_bucket = wanted.bucket AND alias_id = wanted.subject_id
    OFFSET 0
) AS a
"""


async def find(conn: Connection[Record], project_no: int, subject_ids: Iterable[str]) -> dict[str, SubjectKey]:
    """Into whom these ids were merged; of those that were not, nothing."""
    ids = sorted(subject_ids)
    if not ids:
        return {}
    rows = await conn.fetch(_FIND, project_no, [bucket_of(i) for i in ids], ids)
    return {row[0]: SubjectKey(project_no=project_no, bucket=row[1], subject_no=row[2]) for row in rows}


_SURVIVOR = """
SELECT bucket, subject_no FROM subject_aliases WHERE project_no = $1 AND alias_bucket = $2 AND alias_no = $3
"""


async def survivor(conn: Connection[Record], key: SubjectKey) -> SubjectKey | None:
    """The subject that this one was merged into; None when it was not, or when both are gone."""
    row = await conn.fetchrow(_SURVIVOR, key.project_no, key.bucket, key.subject_no)
    return SubjectKey(project_no=key.project_no, bucket=row[0], subject_no=row[1]) if row else None


_ADD = """
INSERT INTO subject_aliases (project_no, alias_bucket, alias_id, alias_no, bucket, subject_no, merged_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def add(
    conn: Connection[Record], merged: SubjectKey, subject_id: str, survivor: SubjectKey, now: datetime
) -> None:
    """Let the id and the key of a subject lead to another. The caller holds both."""
    await conn.execute(
        _ADD, merged.project_no, merged.bucket, subject_id, merged.subject_no, survivor.bucket, survivor.subject_no, now
    )
