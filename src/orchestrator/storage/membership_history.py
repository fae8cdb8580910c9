"""Forgetting who came to segments and left them. What is kept of each folds to the membership, as all of it did."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, Record

#: How long somebody's coming and going is kept after the going.
STAYS_KEPT = timedelta(days=90)

# Whether somebody has still to be told of a transition of the subject of row `t`. OFFSET keeps these from becoming
# joins, which are planned as a scan of the inbox for each row while it seems to be empty.
_TOLD_LATER = """
EXISTS (SELECT FROM inbox AS i
         WHERE i.project_no = t.project_no AND i.bucket = t.bucket AND i.subject_no = t.subject_no
           AND i.transition_nos IS NOT NULL OFFSET 0)
OR (t.project_no, t.bucket, t.subject_no) IN (
        SELECT project_no, bucket, subject_no FROM inbox_dead WHERE transition_nos IS NOT NULL OFFSET 0)
"""

# A stay goes as a whole, its end and all that was before it: what is left of a subject in a segment begins with an
# entry. Whoever never left keeps the entry. The array has the deletion probe row by row, in order.
_FORGET_STAYS = f"""
WITH departed AS MATERIALIZED (
    SELECT project_no, bucket, subject_no, segment_no, transition_no FROM segment_transitions AS t
     WHERE NOT entered AND as_of < $1 AND NOT ({_TOLD_LATER})
     ORDER BY as_of LIMIT $2
), gone AS (
    DELETE FROM segment_transitions WHERE transition_no = ANY (ARRAY(
        SELECT t.transition_no
          FROM (SELECT project_no, bucket, subject_no, segment_no, max(transition_no) AS last
                  FROM departed GROUP BY project_no, bucket, subject_no, segment_no) AS stays
         CROSS JOIN LATERAL (
               SELECT transition_no FROM segment_transitions
                WHERE project_no = stays.project_no AND bucket = stays.bucket AND subject_no = stays.subject_no
                  AND transition_no <= stays.last AND segment_no = stays.segment_no
               OFFSET 0) AS t
         ORDER BY 1))
)
SELECT count(*) FROM departed
"""


async def forget_stays(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` stays in segments that ended long ago, each with its beginning; returns how many.

    Those of subjects of whom an inbox entry tells that they moved wait until it is worked through.
    """
    return int(await conn.fetchval(_FORGET_STAYS, now - STAYS_KEPT, limit))


# Whoever first came to a segment left a row for its size.
_GONE = """
SELECT project_no, array_agg(DISTINCT segment_no) AS segment_nos
  FROM segment_sizes AS z
 WHERE NOT EXISTS (SELECT FROM segments AS s WHERE s.project_no = z.project_no AND s.segment_no = z.segment_no)
 GROUP BY project_no ORDER BY project_no
"""


async def gone_segments(conn: Connection[Record]) -> dict[int, list[int]]:
    """By project: the segments that were deleted and of which something is left."""
    return {row["project_no"]: row["segment_nos"] for row in await conn.fetch(_GONE)}


#: A place in a project's history: bucket, subject and transition.
Place = tuple[int, int, int]

#: Before the first one.
FIRST: Place = (-1, 0, 0)

_FORGET_GONE = f"""
WITH looked_at AS MATERIALIZED (
    SELECT project_no, bucket, subject_no, transition_no, segment_no FROM segment_transitions
     WHERE project_no = $1 AND (bucket, subject_no, transition_no) > ($3::smallint, $4::bigint, $5::bigint)
     ORDER BY bucket, subject_no, transition_no LIMIT $6
), of_gone AS MATERIALIZED (
    SELECT transition_no, ({_TOLD_LATER}) AS waits FROM looked_at AS t WHERE segment_no = ANY ($2::int[])
), gone AS (
    DELETE FROM segment_transitions
     WHERE transition_no = ANY (ARRAY(SELECT transition_no FROM of_gone WHERE NOT waits ORDER BY 1))
)
SELECT (SELECT count(*) FROM of_gone WHERE NOT waits) AS gone, (SELECT count(*) FROM of_gone WHERE waits) AS waiting,
       bucket, subject_no, transition_no, (SELECT count(*) FROM looked_at) AS looked_at
  FROM looked_at ORDER BY bucket DESC, subject_no DESC, transition_no DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What came of a look at a part of a project's history: what went, what waits, and where the next part begins
    (None: nowhere)."""

    gone: int
    waiting: int
    place: Place | None


async def forget_gone(
    conn: Connection[Record], project_no: int, segment_nos: Collection[int], after: Place, limit: int
) -> Forgotten:
    """Delete what is told of these segments by the next `limit` transitions of the project. The same ones wait as in
    `forget_stays`.
    """
    row = await conn.fetchrow(_FORGET_GONE, project_no, list(segment_nos), *after, limit)
    if row is None:
        return Forgotten(gone=0, waiting=0, place=None)
    place = (row["bucket"], row["subject_no"], row["transition_no"])
    return Forgotten(gone=row["gone"], waiting=row["waiting"], place=place if row["looked_at"] == limit else None)


async def forget_sizes(conn: Connection[Record], project_no: int, segment_nos: Collection[int]) -> None:
    """Delete what is left of these segments, of which no transition is."""
    await conn.execute(
        "DELETE FROM segment_sizes WHERE project_no = $1 AND segment_no = ANY ($2::int[])",
        project_no,
        list(segment_nos),
    )
