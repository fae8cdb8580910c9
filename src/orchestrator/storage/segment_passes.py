"""Whole buckets held against many segments in one statement; what changed is written with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.predicates.sql.query import Query
from orchestrator.storage.memberships import FIRST_LOOK
from orchestrator.storage.segment_runs import Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """`query` answers for the segments `asked`. Of the others that exist, `unasked`, membership stays as it is.

    Of `asked`, the rules of `building` (number → revision) are new: who meets them for the first time moves because of
    that. `whole`: nothing is left out but what cannot be asked, so
    that the due times found replace those that stood. `heard`: the ways (segment, entered) that consumers of the inbox
    are to be told of, and whether also of those who move because the rules are new. `awaited`: executions of the
    project await something; then those that await one of these topics (by segment) are poked as their subject moves.
    """

    query: Query
    asked: Collection[int]
    unasked: Collection[int]
    building: Mapping[int, int]
    whole: bool
    heard: Mapping[tuple[int, bool], bool]
    awaited: bool
    topics: Mapping[int, str]
    as_of: datetime


#: SQL: where a subject belongs now: of a row `e` of what was evaluated, and its row `m` of subject_segments.
LATER = """
CASE WHEN m.segment_nos && {unasked}
                THEN ARRAY(SELECT unnest(e.segment_nos) UNION
                           SELECT no FROM unnest(m.segment_nos) AS no WHERE no = ANY ({unasked}) ORDER BY 1)
                ELSE e.segment_nos END
""".strip()

#: SQL: whether something that has happened to the subject of a row `c` has still to be told of; seen in one snapshot
#: with what it has changed.
DATA_WAITS = """
EXISTS (SELECT FROM inbox AS i
                              WHERE i.project_no = $1 AND i.bucket = c.bucket AND i.subject_no = c.subject_no
                                AND kind NOT IN ('transitions', 'preferences', 'backfill'))
""".strip()

#: SQL: how the subject of a row `c` moved. Segments that were deleted vanish without a word.
MOVED = """
SELECT no, true AS entered FROM unnest(c.later) AS no WHERE no = ANY (c.earlier) IS NOT TRUE
            UNION ALL
           SELECT no, false FROM unnest(c.earlier) AS no WHERE no <> ALL (c.later) AND no = ANY ({asked})
""".strip()

#: SQL: counts those who `changed`.
SIZES = """
INSERT INTO segment_sizes (project_no, segment_no, delta)
    SELECT $1, segment_no, sum(CASE WHEN entered THEN 1 ELSE -1 END) FROM changed GROUP BY segment_no
    HAVING sum(CASE WHEN entered THEN 1 ELSE -1 END) <> 0
""".strip()

_OF_BUCKETS = """
WITH evaluated AS MATERIALIZED (
    {query}
), compared AS MATERIALIZED (
    SELECT e.bucket, e.subject_no, m.segment_nos AS earlier, m.next_due AS earlier_due, m.seen,
           {later} AS later,
           CASE WHEN {whole} THEN e.due ELSE LEAST(e.due, m.next_due) END AS due
      FROM evaluated AS e
      LEFT JOIN subject_segments AS m
        -- The range says nothing new, and keeps the join from reading the whole project for each of its parts.
        ON m.project_no = $1 AND m.bucket BETWEEN $2 AND $3 AND m.bucket = e.bucket AND m.subject_no = e.subject_no
), changed AS MATERIALIZED (
    SELECT c.bucket, c.subject_no, no AS segment_no, entered,
           CASE WHEN EXISTS (SELECT FROM unnest({building}, {revisions}) AS new (segment_no, revision)
                              CROSS JOIN LATERAL (
                                    SELECT c.bucket, c.subject_no, c.seen,
                                           c.earlier IS NOT NULL AND c.seen IS DISTINCT FROM '{{}}' AS known) AS who
                              WHERE new.segment_no = no AND {first_look}) THEN 'definition'
                WHEN {data_waits} THEN 'data'
                WHEN earlier_due <= {as_of} THEN 'time'
                WHEN EXISTS (SELECT FROM inbox AS i
                              WHERE i.project_no = $1 AND i.bucket = c.bucket AND i.subject_no = c.subject_no
                                AND kind = 'backfill') THEN 'backfill'
                ELSE 'data' END AS cause, c.earlier, c.earlier_due
      FROM compared AS c
     CROSS JOIN LATERAL (
           {moved}) AS moved
     WHERE c.earlier IS DISTINCT FROM c.later
), written AS (
    INSERT INTO subject_segments (project_no, bucket, subject_no, segment_nos, next_due, as_of, seen)
    SELECT $1, bucket, subject_no, later, due, {as_of}, CASE WHEN NOT {whole} THEN '{{}}'::bigint[] END FROM compared
     WHERE earlier IS DISTINCT FROM later OR earlier_due <= {as_of}
        OR due IS NOT NULL AND (earlier_due IS NULL OR due < earlier_due)
    ON CONFLICT (project_no, bucket, subject_no) DO UPDATE SET
        segment_nos = excluded.segment_nos, next_due = excluded.next_due, as_of = excluded.as_of
), looked AS (
    INSERT INTO segment_looks (project_no, segment_no, bucket, rules_revision)
    SELECT $1, new.segment_no, bucket, new.revision
      FROM unnest({building}, {revisions}) AS new (segment_no, revision)
     CROSS JOIN generate_series($2::int, $3::int) AS bucket
    ON CONFLICT (project_no, segment_no, bucket) DO UPDATE SET rules_revision = excluded.rules_revision
), sizes AS (
    {sizes}
), transitions AS (
    INSERT INTO segment_transitions (project_no, bucket, subject_no, segment_no, entered, cause, as_of)
    SELECT $1, bucket, subject_no, segment_no, entered, cause, {as_of} FROM changed
    RETURNING transition_no, bucket, subject_no, segment_no, entered, cause
), told AS (
    INSERT INTO inbox (project_no, bucket, subject_no, kind, transition_nos, received_at)
    SELECT $1, t.bucket, t.subject_no, 'transitions', array_agg(t.transition_no ORDER BY t.transition_no), {as_of}
      FROM transitions AS t
      LEFT JOIN unnest({heard_nos}, {heard_ways}, {heard_definitions}) AS heard (segment_no, entered, definitions)
        ON heard.segment_no = t.segment_no AND heard.entered = t.entered
     WHERE heard.segment_no IS NOT NULL AND t.cause IN ('data', 'time')
        OR heard.definitions AND t.cause = 'definition'
        -- Who works on what happened to the subject finds it moved already, and pokes those who were about to wait.
        OR {awaited} AND t.cause = 'data'
           AND EXISTS (SELECT FROM inbox AS i
                        WHERE i.project_no = $1 AND i.bucket = t.bucket AND i.subject_no = t.subject_no
                          AND i.kind NOT IN ('transitions', 'backfill'))
     GROUP BY t.bucket, t.subject_no
), poked AS (
    INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
    SELECT DISTINCT $1, t.bucket, t.subject_no, e.execution_id, 'poke', e.workflow_id, {as_of}, {as_of}
      FROM transitions AS t
      JOIN unnest({topic_nos}, {topics}) AS topic (segment_no, name) ON topic.segment_no = t.segment_no
     CROSS JOIN LATERAL (
           SELECT execution_id, workflow_id FROM executions
            WHERE project_no = $1 AND bucket = t.bucket AND subject_no = t.subject_no
              AND awaits IS NOT NULL AND outcome IS NULL AND awaits @> ARRAY[topic.name]
           OFFSET 0) AS e
     WHERE {awaited} AND t.cause IN ('data', 'time', 'definition')
), drifted AS (
    -- Whoever is due or told about in the inbox waits to be worked on.
    SELECT DISTINCT c.bucket, c.subject_no FROM changed AS c
     WHERE c.cause <> 'definition' AND (c.earlier_due IS NULL OR c.earlier_due > {as_of})
       AND NOT EXISTS (SELECT FROM inbox AS i
                        WHERE i.project_no = $1 AND i.bucket = c.bucket AND i.subject_no = c.subject_no
                          AND i.kind NOT IN ('transitions', 'preferences'))
)
SELECT NULL::int AS segment_no, (SELECT count(*) FROM evaluated) AS subjects, (SELECT count(*) FROM drifted) AS drift,
       0::bigint AS entered, 0::bigint AS departed
 UNION ALL
SELECT segment_no, 0, 0, count(*) FILTER (WHERE entered), count(*) FILTER (WHERE NOT entered)
  FROM changed GROUP BY segment_no
"""


async def of_buckets(conn: Connection[Record], project_no: int, first: int, last: int, work: Pass) -> Chunk:
    """Hold the subjects of these buckets, which the caller has alone, against the rules, and write what changed.

    The query of `work` is one among buckets.
    """
    await plan_for(conn, work.query)
    arguments: list[object] = [project_no, first, last, *work.query.arguments]

    def parameter(value: object, type_name: str) -> str:
        arguments.append(value)
        return f"${len(arguments)}::{type_name}"

    statement = _OF_BUCKETS.format(
        query=work.query.text,
        later=LATER.format(unasked=parameter(list(work.unasked), "int[]")),
        moved=MOVED.format(asked=parameter(list(work.asked), "int[]")),
        sizes=SIZES,
        building=parameter(list(work.building), "int[]"),
        revisions=parameter(list(work.building.values()), "int[]"),
        first_look=FIRST_LOOK,
        data_waits=DATA_WAITS,
        whole=parameter(work.whole, "bool"),
        heard_nos=parameter([number for number, _ in work.heard], "int[]"),
        heard_ways=parameter([entered for _, entered in work.heard], "bool[]"),
        heard_definitions=parameter(list(work.heard.values()), "bool[]"),
        awaited=parameter(work.awaited, "bool"),
        topic_nos=parameter(list(work.topics), "int[]"),
        topics=parameter(list(work.topics.values()), "text[]"),
        as_of=parameter(work.as_of, "timestamptz"),
    )
    rows = await conn.fetch(statement, *arguments)
    head, *moved = rows
    return Chunk(
        subjects=head["subjects"],
        drift=head["drift"],
        changes={row["segment_no"]: (row["entered"], row["departed"]) for row in moved},
    )


# Who is at the same buckets is not waited for: what is left of theirs goes with the next run. Rows are found again by
# their places, and stay there, being locked: of a table that has just been filled Postgres thinks that it is empty, and
# would join it with itself row by row.
_FORGET_LOOKS = """
DELETE FROM segment_looks WHERE project_no = $1 AND ctid = ANY (ARRAY(
    SELECT l.ctid FROM segment_looks AS l
     WHERE l.project_no = $1
       AND NOT EXISTS (SELECT FROM segments AS s
                        WHERE s.project_no = $1 AND s.segment_no = l.segment_no
                          AND s.built_revision IS DISTINCT FROM s.rules_revision)
       FOR UPDATE SKIP LOCKED))
"""


async def forget_looks(conn: Connection[Record], project_no: int) -> None:
    """Forget which buckets have met the rules of segments that are built, or gone."""
    await conn.execute(_FORGET_LOOKS, project_no)


async def plan_for(conn: Connection[Record], query: Query) -> None:
    """Have the transaction plan as this query wants it."""
    await conn.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in query.settings.items()))
