"""Enrollments in Postgres: who entered what, written once. Callers hold the subject's row lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    key: SubjectKey
    enrollment_id: UUID
    journey_id: str
    version: int
    goal_revision: int
    # event | segment | enroll
    entry_kind: str
    entry_key: str
    triggered_at: datetime
    entry: dict[str, Any]
    enrolled_at: datetime
    # which holdout the subject belongs to (domain/holdout.py); None: exposed
    held_out_by: str | None = None
    # domain/entry.py, Trigger
    hops: int = 0
    # the project's holdout that was in force, 0: none; the journey's is that of the version
    global_percent: int = 0
    global_salt: str | None = None


_INSERT = """
INSERT INTO enrollments (project_no, bucket, subject_no, enrollment_id, journey_id, version, goal_revision, entry_kind,
                         entry_key, triggered_at, entry, enrolled_at, held_out_by, hops, global_percent, global_salt)
SELECT * FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::uuid[], $5::text[], $6::int[], $7::int[], $8::text[],
                     $9::text[], $10::timestamptz[], $11::jsonb[], $12::timestamptz[], $13::text[], $14::smallint[],
                     $15::smallint[], $16::text[])
"""


async def insert(conn: Connection[Record], enrollments: Sequence[Enrollment]) -> None:
    if not enrollments:
        return
    rows = [
        (
            e.key.project_no, e.key.bucket, e.key.subject_no, e.enrollment_id, e.journey_id, e.version,
            e.goal_revision, e.entry_kind, e.entry_key, e.triggered_at, e.entry, e.enrolled_at, e.held_out_by, e.hops,
            e.global_percent, e.global_salt,
        )
        for e in enrollments
    ]  # fmt: skip
    await conn.execute(_INSERT, *map(list, zip(*rows, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which earlier entries of a subject into a journey matter:
    any, those with one of these keys, those in [since, until].
    """

    key: SubjectKey
    journey_id: str
    any_entry: bool
    entry_keys: frozenset[str]
    since: datetime | None = None
    until: datetime | None = None


_EARLIER = """
SELECT k.no, e.entry_key, e.triggered_at
  FROM unnest($8::int[], $9::text[]) AS k (no, entry_key)
  JOIN enrollments AS e
    ON e.project_no = $1 AND e.bucket = ($2::smallint[])[k.no] AND e.subject_no = ($3::bigint[])[k.no]
   AND e.journey_id = ($4::text[])[k.no] AND e.entry_key = k.entry_key
UNION ALL
SELECT q.no, e.entry_key, e.triggered_at
  FROM unnest($2::smallint[], $3::bigint[], $4::text[], $5::boolean[], $6::timestamptz[], $7::timestamptz[])
       WITH ORDINALITY AS q (bucket, subject_no, journey_id, any_entry, since, until, no)
 CROSS JOIN LATERAL (
       SELECT entry_key, triggered_at FROM enrollments
        WHERE project_no = $1 AND bucket = q.bucket AND subject_no = q.subject_no AND journey_id = q.journey_id
          AND (q.any_entry OR triggered_at BETWEEN q.since AND q.until)
        LIMIT CASE WHEN q.any_entry THEN 1 END) AS e
 WHERE q.any_entry OR q.since IS NOT NULL
"""


async def earlier(
    conn: Connection[Record], project_no: int, questions: Sequence[Question]
) -> list[list[tuple[str, datetime]]]:
    """(entry key, trigger's instant) of the earlier entries that matter, one list per question."""
    if not questions:
        return []
    keyed = [(no, entry_key) for no, q in enumerate(questions, start=1) for entry_key in sorted(q.entry_keys)]
    rows = await conn.fetch(
        _EARLIER,
        project_no,
        [q.key.bucket for q in questions],
        [q.key.subject_no for q in questions],
        [q.journey_id for q in questions],
        [q.any_entry for q in questions],
        [q.since for q in questions],
        [q.until for q in questions],
        [no for no, _ in keyed],
        [entry_key for _, entry_key in keyed],
    )
    found: list[list[tuple[str, datetime]]] = [[] for _ in questions]
    for no, entry_key, triggered_at in rows:
        found[no - 1].append((entry_key, triggered_at))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """An enrollment as it is told of afterwards. `outcome` None: its execution runs, or there is none, and then it has
    no `workflow_id` either.
    """

    enrollment_id: UUID
    version: int
    entry_kind: str
    entry_key: str
    triggered_at: datetime
    enrolled_at: datetime
    # global | journey
    held_out_by: str | None
    outcome: str | None
    workflow_id: str | None


_ENTERED = """
SELECT n.enrollment_id, n.version, n.entry_kind, n.entry_key, n.triggered_at, n.enrolled_at,
       n.held_out_by, e.outcome, e.workflow_id
  FROM enrollments AS n
  LEFT JOIN executions AS e
    ON (e.project_no, e.bucket, e.subject_no, e.execution_id)
     = (n.project_no, n.bucket, n.subject_no, n.enrollment_id)
 WHERE n.project_no = $1 AND n.bucket = $2 AND n.subject_no = $3 AND n.journey_id = $4
   AND ($5::text[] IS NULL OR n.entry_key = ANY ($5))
 ORDER BY n.enrolled_at DESC, n.enrollment_id DESC
 LIMIT $6
"""


async def newest(
    conn: Connection[Record], key: SubjectKey, journey_id: str, *, entry_keys: Sequence[str] | None = None, limit: int
) -> list[Entered]:
    """A subject's enrollments into a journey, newest first; of these keys, or of any."""
    rows = await conn.fetch(
        _ENTERED, key.project_no, key.bucket, key.subject_no, journey_id,
        None if entry_keys is None else list(entry_keys), limit,
    )  # fmt: skip
    return [Entered(**row) for row in rows]
