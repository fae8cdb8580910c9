"""How many entries were refused, by journey, reason and hour:
one row per shard, so that consumers do not queue for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from asyncpg import Connection, Record

#: Subjects are spread over this many rows, by bucket.
SHARDS = 16

# In order, so that two consumers wait for each other in one direction only.
_ADD = """
INSERT INTO refusal_counts AS c (project_no, journey_id, reason, hour, shard, total)
SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[], $5::smallint[], $6::bigint[])
ON CONFLICT (project_no, journey_id, reason, hour, shard) DO UPDATE SET total = c.total + excluded.total
RETURNING project_no, journey_id, reason, hour, shard, total
"""

#: (project_no, journey_id, reason, hour, shard)
Slot = tuple[int, str, str, datetime, int]


def slot(project_no: int, journey_id: str, reason: str, now: datetime, bucket: int) -> Slot:
    return project_no, journey_id, reason, now.replace(minute=0, second=0, microsecond=0), bucket % SHARDS


async def add(conn: Connection[Record], totals: Mapping[Slot, int]) -> dict[Slot, int]:
    """Add these, and say what they come to. As late as the transaction allows: the rows stay locked until it ends."""
    if not totals:
        return {}
    rows = [(*at, total) for at, total in sorted(totals.items())]
    return {tuple(row)[:5]: row["total"] for row in await conn.fetch(_ADD, *map(list, zip(*rows, strict=True)))}


_SINCE = """
SELECT reason, sum(total)::bigint AS total
  FROM refusal_counts
 WHERE project_no = $1 AND journey_id = $2 AND hour >= $3 AND ($4::timestamptz IS NULL OR hour < $4)
 GROUP BY reason ORDER BY total DESC, reason
"""


async def since(
    conn: Connection[Record], project_no: int, journey_id: str, start: datetime, before: datetime | None = None
) -> dict[str, int]:
    """How many entries a journey refused by reason, in the hours that began at `start` or later, and before `before`
    (None: until now).
    """
    rows = await conn.fetch(_SINCE, project_no, journey_id, start, before)
    return {row["reason"]: row["total"] for row in rows}


# Nobody adds to hours that are over. Of one that the limit cuts, the rest is added to what is there.
_FOLD = """
WITH apart AS MATERIALIZED (
    SELECT project_no, journey_id, reason, hour, shard FROM refusal_counts
     WHERE shard > 0 AND hour < $1 ORDER BY hour LIMIT $2
), taken AS (
    DELETE FROM refusal_counts AS c USING apart AS a
     WHERE c.project_no = a.project_no AND c.journey_id = a.journey_id AND c.reason = a.reason AND c.hour = a.hour
       AND c.shard = a.shard
    RETURNING c.project_no, c.journey_id, c.reason, c.hour, c.total
), folded AS (
    INSERT INTO refusal_counts AS c (project_no, journey_id, reason, hour, shard, total)
    SELECT project_no, journey_id, reason, hour, 0, sum(total) FROM taken GROUP BY project_no, journey_id, reason, hour
    ON CONFLICT (project_no, journey_id, reason, hour, shard) DO UPDATE SET total = c.total + excluded.total
)
SELECT count(*) FROM taken
"""


async def fold(conn: Connection[Record], before: datetime, limit: int) -> int:
    """Put up to `limit` rows of hours that began before then to the first shard of their hour; returns how many. Every
    snapshot sees the same sums before and after.
    """
    return int(await conn.fetchval(_FOLD, before, limit))
