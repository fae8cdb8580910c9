"""How many subjects of some buckets a query finds, and who some of them are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from asyncpg import Connection, Record

from orchestrator.predicates.sql.query import Query

_COUNT = """
WITH evaluated AS MATERIALIZED (
    {query}
), counted AS (
    SELECT bucket, count(*) AS subjects, count(*) FILTER (WHERE segment_nos <> '{{}}') AS found
      FROM evaluated GROUP BY bucket
), few AS (
    SELECT bucket, subject_no FROM evaluated WHERE segment_nos <> '{{}}' LIMIT {sample}
)
SELECT ARRAY(SELECT subjects FROM counted) AS subjects, ARRAY(SELECT found FROM counted) AS found,
       ARRAY(SELECT s.subject_id FROM few
              CROSS JOIN LATERAL (SELECT subject_id FROM subjects
                                   WHERE project_no = $1 AND bucket = few.bucket AND subject_no = few.subject_no
                                  OFFSET 0) AS s) AS sample
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Of the buckets that hold anybody: how many they hold and how many of these were found."""

    subjects: Sequence[int]
    found: Sequence[int]
    sample: Sequence[str]


async def count(
    conn: Connection[Record], project_no: int, first: int, last: int, query: Query, *, sample: int, within: timedelta
) -> Counted:
    """Ask about the subjects of these buckets; the query is one among buckets.

    Raises asyncpg.QueryCanceledError when it takes longer than `within`. The transaction's settings change.
    """
    for name, value in query.settings.items():
        await conn.execute(f"SET LOCAL {name} = '{value}'")
    await conn.execute(f"SET LOCAL statement_timeout = {max(1, int(within.total_seconds() * 1000))}")
    text = _COUNT.format(query=query.text, sample=f"${query.next_parameter}::int")
    row = await conn.fetchrow(text, project_no, first, last, *query.arguments, sample)
    assert row is not None
    return Counted(subjects=row["subjects"], found=row["found"], sample=row["sample"])
