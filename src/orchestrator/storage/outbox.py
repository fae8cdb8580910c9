"""What Temporal has still to be told. Rows are written with the decision, and deleted once Temporal has answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator import traces
from orchestrator.domain.scope import SubjectKey

#: The process that wrote a row has this long to tell it before a sweeper takes it up.
FIRST_LEASE = timedelta(seconds=5)

#: What could not be told so many times, for about a quarter of an hour, holds up nothing else any more.
HOPELESS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell: start an execution, or poke it. Start carries what the workflow is started with."""

    outbox_no: int
    # start | poke
    kind: str
    key: SubjectKey
    project_id: str
    subject_id: str
    journey_id: str
    version: int
    execution_id: UUID
    workflow_id: str
    effect: dict[str, Any]
    attempts: int
    created_at: datetime
    # a start that runs behind those for whom somebody waits
    behind: bool = False
    # orchestrator.traces
    trace: str | None = None


_INSERT = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at,
                    behind, trace)
SELECT i.project_no, i.bucket, i.subject_no, i.execution_id, $5, i.workflow_id, $7, $8, i.behind, i.trace
  FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::uuid[], $6::text[], $9::bool[], $10::text[])
       AS i (project_no, bucket, subject_no, execution_id, workflow_id, behind, trace)
RETURNING outbox_no
"""


async def insert(
    conn: Connection[Record],
    kind: str,
    told: Sequence[tuple[SubjectKey, UUID, str]],
    now: datetime,
    *,
    behind: Sequence[bool] | None = None,
) -> list[int]:
    """Note that these executions (subject, id, workflow id) are to be started, each `behind` others or not (None: none
    is), or poked; returns the rows' numbers in order.
    """
    if not told:
        return []
    rows = await conn.fetch(
        _INSERT,
        [key.project_no for key, _, _ in told],
        [key.bucket for key, _, _ in told],
        [key.subject_no for key, _, _ in told],
        [execution_id for _, execution_id, _ in told],
        kind,
        [workflow_id for _, _, workflow_id in told],
        now + FIRST_LEASE,
        now,
        list(behind) if behind is not None else [False] * len(told),
        [traces.carried(key) for key, _, _ in told],
    )
    return [row["outbox_no"] for row in rows]


async def insert_pokes(
    conn: Connection[Record], told: Sequence[tuple[SubjectKey, UUID, str]], now: datetime
) -> list[Notice]:
    """`insert` of pokes, as what Temporal is to be told of after the commit; of that which only a start carries, they
    have nothing.
    """
    numbers = await insert(conn, "poke", told, now)
    return [
        Notice(
            outbox_no=number,
            kind="poke",
            key=key,
            project_id="",
            subject_id="",
            journey_id="",
            version=0,
            execution_id=execution_id,
            workflow_id=workflow_id,
            effect={},
            attempts=0,
            created_at=now,
            trace=traces.carried(key),
        )
        for number, (key, execution_id, workflow_id) in zip(numbers, told, strict=True)
    ]


# Of the newest alone, so that it takes the same time however much lies there.
_UNTOLD = """
SELECT count(*) FROM (SELECT kind, attempts FROM outbox ORDER BY outbox_no DESC LIMIT 2 * $2::bigint) AS newest
 WHERE kind = $1 AND attempts < $3
"""


async def untold(conn: Connection[Record], kind: str, most: int) -> int:
    """How many of this kind Temporal has still to be told, among the newest `2 * most` of all. What could not be told
    HOPELESS times does not count: nobody would be served by waiting for it.
    """
    count: int = await conn.fetchval(_UNTOLD, kind, most, HOPELESS)
    return count


async def is_backlog(conn: Connection[Record], kind: str, most: int) -> bool:
    """Whether so many of this kind have still to be told (`untold`): whoever has more, page by page, waits then, so
    that others do not queue behind it, and an outage of Temporal does not pile it up.
    """
    return await untold(conn, kind, most) >= most


# An execution is not under way before it is started, so starts go first; pokes always have their part.
_CLAIM = """
WITH starts AS (
    SELECT outbox_no FROM outbox WHERE kind = 'start' AND leased_until <= $1
     ORDER BY leased_until LIMIT $2::bigint - $4::bigint FOR UPDATE SKIP LOCKED
), pokes AS (
    SELECT outbox_no FROM outbox WHERE kind = 'poke' AND leased_until <= $1
     ORDER BY leased_until LIMIT $2::bigint - (SELECT count(*) FROM starts) FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE outbox AS o SET leased_until = $3, attempts = o.attempts + 1
      FROM (SELECT outbox_no FROM starts UNION ALL SELECT outbox_no FROM pokes) AS due
     WHERE o.outbox_no = due.outbox_no
    RETURNING o.*
)
SELECT t.outbox_no, t.kind, t.project_no, t.bucket, t.subject_no, t.execution_id, t.workflow_id, t.attempts,
       t.created_at, t.behind, t.trace, p.project_id, s.subject_id, e.journey_id, e.version, e.effect
  FROM taken AS t
  JOIN projects AS p USING (project_no)
  LEFT JOIN subjects AS s USING (project_no, bucket, subject_no)
  LEFT JOIN executions AS e USING (project_no, bucket, subject_no, execution_id)
 ORDER BY t.kind = 'start' DESC, t.outbox_no
"""


async def claim(
    conn: Connection[Record], *, now: datetime, lease: timedelta, limit: int
) -> tuple[list[Notice], list[int]]:
    """Take rows whose lease has run out, starts before pokes, of which at least a quarter of `limit` are taken if there
    are so many: those that can be told, and the numbers of those whose execution was erased.
    """
    rows = await conn.fetch(_CLAIM, now, limit, now + lease, limit // 4)
    notices = [
        Notice(
            outbox_no=row["outbox_no"],
            kind=row["kind"],
            key=SubjectKey(project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"]),
            project_id=row["project_id"],
            subject_id=row["subject_id"],
            journey_id=row["journey_id"],
            version=row["version"],
            execution_id=row["execution_id"],
            workflow_id=row["workflow_id"],
            effect=row["effect"],
            attempts=row["attempts"],
            created_at=row["created_at"],
            behind=row["behind"],
            trace=row["trace"],
        )
        for row in rows
        if row["effect"] is not None and row["subject_id"] is not None
    ]
    kept = {notice.outbox_no for notice in notices}
    return notices, [row["outbox_no"] for row in rows if row["outbox_no"] not in kept]


# One probe for each, as in storage/subjects.py; by the execution alone, whose subject may have been merged meanwhile.
_UNFINISHED = """
SELECT e.execution_id, EXISTS (SELECT FROM outbox AS o WHERE o.execution_id = e.execution_id AND o.kind = 'start')
  FROM unnest($1::int[], $2::uuid[]) AS w (project_no, execution_id)
 CROSS JOIN LATERAL (
       SELECT execution_id FROM executions
        WHERE project_no = w.project_no AND execution_id = w.execution_id AND outcome IS NULL
       OFFSET 0) AS e
"""


async def unfinished(conn: Connection[Record], notices: Sequence[Notice]) -> dict[UUID, bool]:
    """Those of these notices' executions that have not ended, and whether Temporal has still to be told to start it."""
    rows = await conn.fetch(
        _UNFINISHED, [notice.key.project_no for notice in notices], [notice.execution_id for notice in notices]
    )
    return {row[0]: row[1] for row in rows}


_DELETE_ORPHANS = """
DELETE FROM outbox AS o
 WHERE o.outbox_no = ANY ($1::bigint[])
   AND NOT EXISTS (SELECT FROM executions AS e
                     JOIN subjects AS s USING (project_no, bucket, subject_no)
                    WHERE e.project_no = o.project_no AND e.bucket = o.bucket AND e.subject_no = o.subject_no
                      AND e.execution_id = o.execution_id)
"""


async def delete_orphans(conn: Connection[Record], outbox_nos: Sequence[int]) -> None:
    """Remove rows that were claimed and whose execution was erased: looked at once more, since one whose subject was
    being merged at that moment seemed to be gone. That one is taken up again when its lease has run out.
    """
    if outbox_nos:
        await conn.execute(_DELETE_ORPHANS, list(outbox_nos))


async def delete(conn: Connection[Record], outbox_nos: Sequence[int]) -> None:
    if outbox_nos:
        await conn.execute("DELETE FROM outbox WHERE outbox_no = ANY ($1::bigint[])", list(outbox_nos))


_RELEASE = "UPDATE outbox SET leased_until = $2, last_error = $3 WHERE outbox_no = $1"


async def postpone(conn: Connection[Record], outbox_no: int, *, until: datetime, error: str) -> None:
    """Try again at `until`. `error` is the error's type, no values."""
    await conn.execute(_RELEASE, outbox_no, until, error)


_BURY = """
WITH gone AS (DELETE FROM outbox WHERE outbox_no = $1 RETURNING *)
INSERT INTO outbox_dead (outbox_no, project_no, bucket, subject_no, execution_id, kind, workflow_id, attempts,
                         leased_until, last_error, created_at, died_at)
SELECT outbox_no, project_no, bucket, subject_no, execution_id, kind, workflow_id, attempts, leased_until, $2,
created_at, $3
  FROM gone
"""


async def bury(conn: Connection[Record], outbox_no: int, *, error: str, now: datetime) -> None:
    """Temporal refuses it for good: `doctor` shows it from now on."""
    await conn.execute(_BURY, outbox_no, error, now)
