"""Some subjects held against many segments in one statement; what changed is written with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.domain.scope import SubjectKey
from orchestrator.predicates.sql.query import Query
from orchestrator.storage.memberships import Cause, Recorded, Transition
from orchestrator.storage.segment_passes import DATA_WAITS, LATER, MOVED, SIZES, plan_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`query` answers for the segments `asked`, which are all that can be; of those that exist, membership in `unasked`
    stays as it is. `new`: those of `asked` whose rules are new (number → revision). Who is in `first_looks` is held
    against some of them for the first time, and moves in those because of that. Of those of `heard` the caller is told.
    """

    query: Query
    asked: Collection[int]
    unasked: Collection[int]
    new: Mapping[int, int]
    first_looks: Mapping[SubjectKey, Collection[int]]
    heard: Collection[int]
    as_of: datetime


# Lists of subjects are looked into as sets, however long they are: that of a join might be gone through for each row.
_OF_SUBJECTS = """
WITH evaluated AS MATERIALIZED (
    {query}
), compared AS MATERIALIZED (
    SELECT e.bucket, e.subject_no, m.segment_nos AS earlier, m.next_due AS earlier_due, e.due,
           {later} AS later
      FROM evaluated AS e
      LEFT JOIN LATERAL (
           SELECT segment_nos, next_due FROM subject_segments
            WHERE project_no = $1 AND bucket = e.bucket AND subject_no = e.subject_no
           OFFSET 0) AS m ON true
), changed AS MATERIALIZED (
    SELECT c.bucket, c.subject_no, no AS segment_no, entered,
           CASE WHEN (c.subject_no, no) IN (SELECT * FROM unnest({first_subjects}, {first_segments})) THEN 'definition'
                WHEN c.subject_no IN (SELECT unnest({untold})) THEN 'time'
                WHEN c.subject_no IN (SELECT unnest({past})) THEN
                     CASE WHEN {data_waits} THEN 'data' WHEN c.earlier_due <= {as_of} THEN 'time' ELSE 'backfill' END
                ELSE 'data' END AS cause
      FROM compared AS c
     CROSS JOIN LATERAL (
           {moved}) AS moved
     WHERE c.earlier IS DISTINCT FROM c.later
), written AS (
    INSERT INTO subject_segments (project_no, bucket, subject_no, segment_nos, next_due, as_of, seen)
    SELECT $1, bucket, subject_no, later, due, {as_of}, {seen} FROM compared
     WHERE earlier IS DISTINCT FROM later OR earlier_due <= {as_of}
        OR due IS NOT NULL AND (earlier_due IS NULL OR due < earlier_due)
        OR subject_no IN (SELECT unnest({first_subjects}))
    ON CONFLICT (project_no, bucket, subject_no) DO UPDATE SET
        segment_nos = excluded.segment_nos, next_due = excluded.next_due, as_of = excluded.as_of, seen = excluded.seen
), sizes AS (
    {sizes}
), transitions AS (
    INSERT INTO segment_transitions (project_no, bucket, subject_no, segment_no, entered, cause, as_of)
    SELECT $1, bucket, subject_no, segment_no, entered, cause, {as_of} FROM changed
     ORDER BY bucket, subject_no, segment_no
    RETURNING transition_no, bucket, subject_no, segment_no, entered, cause
)
SELECT transition_no, bucket, subject_no, segment_no, entered, cause FROM transitions
 WHERE segment_no = ANY ({heard}) ORDER BY transition_no
"""


async def of_subjects(
    conn: Connection[Record], project_no: int, keys: Sequence[SubjectKey], told: Mapping[SubjectKey, Cause], look: Look
) -> list[Recorded]:
    """Hold these subjects, whose rows the caller holds and whose buckets it shares, against the rules, and write what
    changed; returns who came to segments that are heard, and left them, in order.

    The query of `look` is one among subjects. `told`: what has happened to whom; of the others a window has run out.
    """
    await plan_for(conn, look.query)
    arguments: list[object] = [
        project_no, [key.bucket for key in keys], [key.subject_no for key in keys], *look.query.arguments
    ]  # fmt: skip

    def parameter(value: object, type_name: str) -> str:
        arguments.append(value)
        return f"${len(arguments)}::{type_name}"

    first = [(key.subject_no, number) for key, numbers in look.first_looks.items() for number in numbers]
    statement = _OF_SUBJECTS.format(
        query=look.query.text,
        later=LATER.format(unasked=parameter(list(look.unasked), "int[]")),
        moved=MOVED.format(asked=parameter(list(look.asked), "int[]")),
        sizes=SIZES,
        first_subjects=parameter([subject_no for subject_no, _ in first], "bigint[]"),
        first_segments=parameter([number for _, number in first], "int[]"),
        untold=parameter([key.subject_no for key in keys if key not in told], "bigint[]"),
        past=parameter([key.subject_no for key in keys if told.get(key) == "backfill"], "bigint[]"),
        data_waits=DATA_WAITS,
        seen=parameter([number << 32 | revision for number, revision in look.new.items()] or None, "bigint[]"),
        heard=parameter(list(look.heard), "int[]"),
        as_of=parameter(look.as_of, "timestamptz"),
    )
    rows = await conn.fetch(statement, *arguments)
    return [
        Recorded(
            transition_no=transition_no,
            transition=Transition(
                key=SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no),
                segment_no=segment_no,
                entered=entered,
                cause=cause,
            ),
            at=look.as_of,
        )
        for transition_no, bucket, subject_no, segment_no, entered, cause in rows
    ]


async def members(
    conn: Connection[Record], project_no: int, keys: Sequence[SubjectKey], query: Query
) -> list[SubjectKey]:
    """Those of these for whom any question of the query holds, which is one among subjects; in the order given."""
    await plan_for(conn, query)
    rows = await conn.fetch(
        f"SELECT subject_no FROM ({query.text}) AS evaluated WHERE segment_nos <> '{{}}'",
        project_no, [key.bucket for key in keys], [key.subject_no for key in keys], *query.arguments,
    )  # fmt: skip
    found = {row[0] for row in rows}
    return [key for key in keys if key.subject_no in found]
