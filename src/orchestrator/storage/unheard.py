"""Sends and calls whose execution was ended in Temporal while they waited for their next try: nobody makes it any more,
so what came of them is what is known by then.

Here no subject is held: a try that is still under way, and somebody who merges, are left alone, and rows that they hold
are looked at another time.
"""

from __future__ import annotations

from datetime import datetime

from asyncpg import Connection, Record

#: Why they are settled.
EXECUTION_ENDED = "execution_ended"

_UNHEARD = """
WITH unheard AS (
    SELECT l.project_no, l.bucket, l.subject_no, l.execution_id, l.seq
      FROM {ledger} AS l
     WHERE l.state = '{open}' AND l.reserved_at < $1
       AND EXISTS (SELECT FROM executions AS e
                    WHERE (e.project_no, e.bucket, e.subject_no, e.execution_id)
                        = (l.project_no, l.bucket, l.subject_no, l.execution_id)
                      AND e.ended_at < $1)
     ORDER BY l.reserved_at
     LIMIT $2
       FOR UPDATE OF l SKIP LOCKED
)
UPDATE {ledger} AS l
   SET {outcome}, reason = '{reason}', settled_at = clock_timestamp()
  FROM unheard AS u
 WHERE (l.project_no, l.bucket, l.subject_no, l.execution_id, l.seq)
     = (u.project_no, u.bucket, u.subject_no, u.execution_id, u.seq)
"""

_SENDS = _UNHEARD.format(
    ledger="sends",
    open="dispatching",
    outcome="state = CASE WHEN l.in_doubt THEN 'unknown' ELSE 'failed' END, in_doubt = false",
    reason=EXECUTION_ENDED,
)
# Whether the receiver may have taken it, `in_doubt` goes on to say.
_CALLS = _UNHEARD.format(ledger="webhook_calls", open="calling", outcome="state = 'failed'", reason=EXECUTION_ENDED)


async def settle(conn: Connection[Record], ended_before: datetime, limit: int) -> int:
    """Settle some of those whose execution had ended by then, at most so many sends and so many calls: sends that may
    have gone out as unknown, all others as failed. How many; 0: there are no more.
    """
    settled = 0
    for statement in (_SENDS, _CALLS):
        settled += int((await conn.execute(statement, ended_before, limit)).rsplit(" ", 1)[1])
    return settled
