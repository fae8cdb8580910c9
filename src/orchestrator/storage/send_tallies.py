"""What came of the sends of journeys that pause them by themselves, by the minute in which it was learned: one row per
shard, so that sends do not queue for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.domain.auto_pause import MAX_WINDOW, Tally

#: Subjects are spread over this many rows, by bucket.
SHARDS = 4

# In order, so that two who add wait for each other in one direction only.
_ADD = """
INSERT INTO send_tallies AS t (project_no, journey_id, minute, shard, sends, failed, complained)
SELECT $1, w.journey_id, date_trunc('minute', $2::timestamptz), w.shard, w.sends, w.failed, w.complained
  FROM unnest($3::text[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[])
       AS w (journey_id, shard, sends, failed, complained)
 ORDER BY w.journey_id, w.shard
ON CONFLICT (project_no, journey_id, minute, shard) DO UPDATE SET
    sends = t.sends + excluded.sends,
    failed = t.failed + excluded.failed,
    complained = t.complained + excluded.complained
"""

#: (journey, shard)
Slot = tuple[str, int]


def slot(journey_id: str, bucket: int) -> Slot:
    return journey_id, bucket % SHARDS


async def add(conn: Connection[Record], project_no: int, now: datetime, tallies: Mapping[Slot, Tally]) -> None:
    """Add what was learned now. As late as the transaction allows: the rows stay locked until it ends."""
    if tallies:
        await conn.execute(
            _ADD, project_no, now, [journey_id for journey_id, _ in tallies], [shard for _, shard in tallies],
            [tally.sends for tally in tallies.values()], [tally.failed for tally in tallies.values()],
            [tally.complained for tally in tallies.values()],
        )  # fmt: skip


_WITHIN = """
SELECT coalesce(sum(sends), 0)::bigint AS sends, coalesce(sum(failed), 0)::bigint AS failed,
       coalesce(sum(complained), 0)::bigint AS complained
  FROM send_tallies
 WHERE project_no = $1 AND journey_id = $2 AND minute > $3
"""


async def within(conn: Connection[Record], project_no: int, journey_id: str, window: timedelta, now: datetime) -> Tally:
    """What was learned in this window: in the minutes that began in it."""
    row = await conn.fetchrow(_WITHIN, project_no, journey_id, now - window)
    assert row is not None
    return Tally(**row)


async def forget(conn: Connection[Record], project_no: int, journey_id: str) -> None:
    """Count from the beginning."""
    await conn.execute("DELETE FROM send_tallies WHERE project_no = $1 AND journey_id = $2", project_no, journey_id)


_FORGET_OLD = """
DELETE FROM send_tallies WHERE (project_no, journey_id, minute, shard) IN (
    SELECT project_no, journey_id, minute, shard FROM send_tallies WHERE minute < $1 LIMIT $2)
"""


async def forget_old(conn: Connection[Record], now: datetime, limit: int) -> int:
    """Delete up to `limit` rows that no window reaches any more; returns how many."""
    tag = await conn.execute(_FORGET_OLD, now - MAX_WINDOW - timedelta(hours=1), limit)
    return int(tag.rsplit(" ", 1)[1])
