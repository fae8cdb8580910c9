"""Sends and calls whose execution was ended in Temporal while they waited for their next try: nobody makes it any more,
so what came of them is what is known by then.

Here no subject is held: a try that is still under way, and somebody who merges, are left alone, and rows that they hold
are looked at another time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from asyncpg import Connection, Record

#: Why they are settled.
EXECUTION_ENDED = "execution_ended"

#: Where a looking has come to: when it was reserved, and whose it is.
Place = tuple[datetime, UUID, int]
START: Place = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`settled`: how many; `end`: where the looking ended; None when there were no more."""

    settled: int
    end: Place | None


# While a provider is away for long there are very many that are open, and hardly one of which nobody makes another try.
_UNHEARD = """
WITH looked AS MATERIALIZED (
    SELECT project_no, bucket, subject_no, execution_id, seq, reserved_at
      FROM {ledger}
     WHERE state = '{open}' AND reserved_at < $1 AND (reserved_at, execution_id, seq) > ($2, $3, $4)
     ORDER BY reserved_at, execution_id, seq
     LIMIT $5
), unheard AS MATERIALIZED (
    SELECT l.project_no, l.bucket, l.subject_no, l.execution_id, l.seq
      FROM looked AS k
      JOIN executions AS e
        ON (e.project_no, e.bucket, e.subject_no, e.execution_id)
         = (k.project_no, k.bucket, k.subject_no, k.execution_id)
      JOIN {ledger} AS l
        ON (l.project_no, l.bucket, l.subject_no, l.execution_id, l.seq)
         = (k.project_no, k.bucket, k.subject_no, k.execution_id, k.seq)
     WHERE e.ended_at < $1 AND l.state = '{open}'
       FOR UPDATE OF l SKIP LOCKED
), settled AS (
    UPDATE {ledger} AS l
       SET {outcome}, reason = '{reason}', settled_at = clock_timestamp()
      FROM unheard AS u
     WHERE (l.project_no, l.bucket, l.subject_no, l.execution_id, l.seq)
         = (u.project_no, u.bucket, u.subject_no, u.execution_id, u.seq)
    RETURNING true
)
SELECT reserved_at, execution_id, seq, count(*) OVER () AS looked, (SELECT count(*) FROM settled) AS settled
  FROM looked
 ORDER BY reserved_at DESC, execution_id DESC, seq DESC
 LIMIT 1
"""

_SENDS = _UNHEARD.format(
    ledger="sends",
    open="dispatching",
    outcome="state = CASE WHEN l.in_doubt THEN 'unknown' ELSE 'failed' END, in_doubt = false",
    reason=EXECUTION_ENDED,
)
_CALLS = _UNHEARD.format(ledger="webhook_calls", open="calling", outcome="state = 'failed'", reason=EXECUTION_ENDED)


async def settle_sends(conn: Connection[Record], ended_before: datetime, after: Place, limit: int) -> Page:
    """Of the next open sends, settle those whose execution had ended by then: what may have gone out becomes unknown,
    all else failed.
    """
    return _page(await conn.fetchrow(_SENDS, ended_before, *after, limit), limit)


async def settle_calls(conn: Connection[Record], ended_before: datetime, after: Place, limit: int) -> Page:
    """The same of calls, which fail. Whether the receiver may have taken one, `in_doubt` goes on to say."""
    return _page(await conn.fetchrow(_CALLS, ended_before, *after, limit), limit)


def _page(row: Record | None, limit: int) -> Page:
    if row is None:
        return Page(settled=0, end=None)
    end = (row["reserved_at"], row["execution_id"], row["seq"]) if row["looked"] == limit else None
    return Page(settled=row["settled"], end=end)
