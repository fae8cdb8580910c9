"""Erasures: what is under way, and the receipts of those that are done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from orchestrator.domain.erasure import Erasure, Origin, Passed, Phase
from orchestrator.domain.resource import Place
from orchestrator.domain.scope import SubjectKey

#: One that is not done is told to Temporal again after this, in case its workflow was lost.
TELL_AGAIN = timedelta(seconds=30)

_COLUMNS = """e.erasure_id, e.subject_ref, e.origin, e.ids, e.phase, e.phases, e.requested_at, e.ended_at, e.lifted_at,
       (SELECT coalesce(sum(t.refused), 0)::bigint FROM tombstones AS t
         WHERE t.project_no = e.project_no AND t.erasure_id = e.erasure_id) AS refused,
       (SELECT max(t.refused_at) FROM tombstones AS t
         WHERE t.project_no = e.project_no AND t.erasure_id = e.erasure_id) AS refused_at"""

_INSERT = """
INSERT INTO erasures (project_no, erasure_id, subject_ref, origin, ids, phase, phases, bucket, subject_no, subject_ids,
                      starts_until, requested_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""


async def insert(
    conn: Connection[Record],
    key: SubjectKey,
    erasure: Erasure,
    subject_ids: Sequence[str],
    starts_until: datetime | None,
) -> None:
    """Have the rest of it done. `key` and `subject_ids` are kept until it is; so long, starts may still come to be."""
    await conn.execute(
        _INSERT, key.project_no, erasure.erasure_id, erasure.subject_ref, erasure.origin.value, erasure.ids,
        erasure.phase.value, _stored(erasure.phases), key.bucket, key.subject_no, list(subject_ids), starts_until,
        erasure.requested_at,
    )  # fmt: skip


_INSERT_DONE = """
INSERT INTO erasures (project_no, erasure_id, subject_ref, origin, ids, phase, phases, requested_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


async def insert_done(conn: Connection[Record], project_no: int, erasure: Erasure) -> None:
    """Keep the receipt of one of which nothing is left to do."""
    await conn.execute(
        _INSERT_DONE, project_no, erasure.erasure_id, erasure.subject_ref, erasure.origin.value, erasure.ids,
        erasure.phase.value, _stored(erasure.phases), erasure.requested_at, erasure.ended_at,
    )  # fmt: skip


_FIND = f"SELECT {_COLUMNS} FROM erasures AS e WHERE e.project_no = $1 AND e.erasure_id = $2"


async def find(conn: Connection[Record], project_no: int, erasure_id: str) -> Erasure | None:
    row = await conn.fetchrow(_FIND, project_no, erasure_id)
    return _erasure(row) if row else None


_PAGE = f"""
SELECT {_COLUMNS} FROM erasures AS e
 WHERE e.project_no = $1 AND ($2::timestamptz IS NULL OR (e.requested_at, e.erasure_id) < ($2, $3))
 ORDER BY e.requested_at DESC, e.erasure_id DESC
 LIMIT $4
"""


async def page(
    conn: Connection[Record], project_no: int, *, after: Place | None, limit: int
) -> tuple[list[Erasure], Place | None]:
    """At most `limit` (≥ 1), newest first; where it ends."""
    requested_at, erasure_id = (after.created_at, after.id) if after else (None, None)
    rows = await conn.fetch(_PAGE, project_no, requested_at, erasure_id, limit + 1)
    found = [_erasure(row) for row in rows[:limit]]
    last = found[-1] if len(rows) > limit else None
    return found, Place(created_at=last.requested_at, id=last.erasure_id) if last else None


@dataclass(frozen=True, slots=True)
class Open:
    """An erasure that a workflow has to see to."""

    project_no: int
    erasure_id: str


_UNTOLD = """
UPDATE erasures AS e SET told_at = $1
  FROM (SELECT project_no, erasure_id FROM erasures
         WHERE ended_at IS NULL AND (told_at IS NULL OR told_at < $2)
         ORDER BY requested_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS open
 WHERE e.project_no = open.project_no AND e.erasure_id = open.erasure_id
RETURNING e.project_no, e.erasure_id
"""


async def claim_untold(conn: Connection[Record], now: datetime, limit: int) -> list[Open]:
    """Erasures to tell Temporal of, at most `limit`. Whoever claims one and fails is followed by a later look."""
    return [Open(*row) for row in await conn.fetch(_UNTOLD, now, now - TELL_AGAIN, limit)]


_NOT_TOLD = """
UPDATE erasures AS e SET told_at = NULL
  FROM (SELECT project_no, erasure_id FROM erasures
         WHERE ended_at IS NULL AND (project_no, erasure_id) IN (SELECT * FROM unnest($1::int[], $2::text[]))
           FOR UPDATE SKIP LOCKED) AS open
 WHERE e.project_no = open.project_no AND e.erasure_id = open.erasure_id
"""


async def not_told(conn: Connection[Record], erasures: Iterable[Open]) -> None:
    """Take back that Temporal was told of these."""
    keys = [(one.project_no, one.erasure_id) for one in erasures]
    await conn.execute(_NOT_TOLD, [project_no for project_no, _ in keys], [erasure_id for _, erasure_id in keys])


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """What is left to do of an erasure, by whoever holds it. `project_id`: whose subject it was. `answers_to`: up to
    when stored answers were looked at, None: none yet.
    """

    project_no: int
    project_id: str
    erasure: Erasure
    key: SubjectKey
    subject_ids: tuple[str, ...]
    starts_until: datetime | None
    answers_to: datetime | None


_HOLD = f"""
SELECT {_COLUMNS}, e.bucket, e.subject_no, e.subject_ids, e.starts_until, e.answers_to, p.project_id
  FROM erasures AS e JOIN projects AS p USING (project_no)
 WHERE e.project_no = $1 AND e.erasure_id = $2 AND e.ended_at IS NULL
"""


async def hold(conn: Connection[Record], project_no: int, erasure_id: str) -> UnderWay | None:
    """The erasure, which nobody else goes on with until the transaction ends; None: it is done, or there is none."""
    return await _under_way(conn, f"{_HOLD} FOR UPDATE OF e", project_no, erasure_id)


async def look(conn: Connection[Record], project_no: int, erasure_id: str) -> UnderWay | None:
    """`hold`, without holding it."""
    return await _under_way(conn, _HOLD, project_no, erasure_id)


async def _under_way(conn: Connection[Record], statement: str, project_no: int, erasure_id: str) -> UnderWay | None:
    row = await conn.fetchrow(statement, project_no, erasure_id)
    if row is None:
        return None
    return UnderWay(
        project_no=project_no,
        project_id=row["project_id"],
        erasure=_erasure(row),
        key=SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]),
        subject_ids=tuple(row["subject_ids"]),
        starts_until=row["starts_until"],
        answers_to=row["answers_to"],
    )


_GO_ON = "UPDATE erasures SET phase = $3, phases = $4 WHERE project_no = $1 AND erasure_id = $2"

_END = """
UPDATE erasures
   SET phase = $3, phases = $4, ended_at = $5, bucket = NULL, subject_no = NULL, subject_ids = NULL,
       starts_until = NULL, answers_to = NULL
 WHERE project_no = $1 AND erasure_id = $2
"""


async def go_on(
    conn: Connection[Record], under_way: UnderWay, phase: Phase, phases: Mapping[Phase, Passed], now: datetime
) -> None:
    """Note how far an erasure has come that the caller holds. With DONE, what was kept for it goes as well."""
    own = (under_way.project_no, under_way.erasure.erasure_id, phase.value, _stored(phases))
    if phase is Phase.DONE:
        await conn.execute(_END, *own, now)
    else:
        await conn.execute(_GO_ON, *own)


# Two may be at the same part, and one of them at the next one as well.
_LOOKED_AT = """
UPDATE erasures SET answers_to = GREATEST(answers_to, $3)
 WHERE project_no = $1 AND erasure_id = $2 AND ended_at IS NULL
"""


async def looked_at_answers(conn: Connection[Record], under_way: UnderWay, to: datetime) -> None:
    """Note that stored answers of before then were looked at for an erasure."""
    await conn.execute(_LOOKED_AT, under_way.project_no, under_way.erasure.erasure_id, to)


#: Of what the ledger lacks; as in migrations/0029_unwritten_erasures.sql.
IS_UNWRITTEN = """(phases #>> '{ledger,counts,lines}' = '0' AND lifted_at IS NULL
    OR phases #>> '{ledger,counts,lines}' = '1' AND phases #>> '{ledger,counts,lifts}' IS NULL
       AND lifted_at IS NOT NULL AND ended_at IS NOT NULL)"""

_UNWRITTEN = f"""
SELECT {_COLUMNS}, e.project_no, p.project_id
  FROM (SELECT * FROM erasures WHERE {IS_UNWRITTEN} ORDER BY requested_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS e
  JOIN projects AS p USING (project_no)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwritten:
    """An erasure of which the ledger lacks a line: that it was lifted, or else that it is."""

    project_no: int
    project_id: str
    erasure: Erasure


async def hold_unwritten(conn: Connection[Record], limit: int) -> list[Unwritten]:
    """At most `limit` that the ledger lacks, and that nobody else writes down or lifts until the transaction ends."""
    return [
        Unwritten(project_no=row["project_no"], project_id=row["project_id"], erasure=_erasure(row))
        for row in await conn.fetch(_UNWRITTEN, limit)
    ]


_WRITTEN = "UPDATE erasures SET phases = $3 WHERE project_no = $1 AND erasure_id = $2"


async def written(conn: Connection[Record], unwritten: Unwritten) -> None:
    """Note in its receipt that the ledger has now what it lacked of an erasure that the caller holds."""
    erasure = unwritten.erasure
    passed = erasure.phases[Phase.LEDGER]
    counts = {**passed.counts, "lines" if erasure.lifted_at is None else "lifts": 1}
    phases = {**erasure.phases, Phase.LEDGER: replace(passed, counts=counts)}
    await conn.execute(_WRITTEN, unwritten.project_no, erasure.erasure_id, _stored(phases))


_LIFTED = "UPDATE erasures SET lifted_at = $3 WHERE project_no = $1 AND erasure_id = $2"


async def lifted(conn: Connection[Record], project_no: int, erasure_id: str, now: datetime) -> None:
    """Its ids are taken in again from now on."""
    await conn.execute(_LIFTED, project_no, erasure_id, now)


_STILL_ERASING = """
SELECT e.erasure_id FROM erasures AS e
 WHERE e.project_no = $1 AND e.ended_at IS NULL AND e.erasure_id <> $2
   AND EXISTS (SELECT FROM unnest(e.subject_ids) AS id
                 JOIN tombstones AS t ON t.project_no = $1 AND t.subject_hash = tombstone_hash($1, id)
                WHERE t.erasure_id = $2)
 LIMIT 1
"""


async def still_erasing(conn: Connection[Record], project_no: int, erasure_id: str) -> str | None:
    """Another erasure that is under way and takes out of Temporal what has an id that this one refuses: so it is when a
    replay found two of one person. None: there is none.
    """
    found: str | None = await conn.fetchval(_STILL_ERASING, project_no, erasure_id)
    return found


# A sweeper that has taken some and not committed is waited for: its lease counts. One whose statement began before us
# finds them gone, and must, since it still sees the subject. In the order in which those who told Temporal delete them.
_TAKE_STARTS = """
WITH held AS (
    SELECT outbox_no, leased_until FROM outbox
     WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND kind = 'start' ORDER BY outbox_no FOR UPDATE
), gone AS (
    DELETE FROM outbox AS o USING held WHERE o.outbox_no = held.outbox_no
)
SELECT max(leased_until) FROM held
"""


async def take_starts(conn: Connection[Record], key: SubjectKey) -> datetime | None:
    """Let nobody begin to start an execution of this subject but who has been about to; returns until when they may.

    None: nobody is.
    """
    found: datetime | None = await conn.fetchval(_TAKE_STARTS, key.project_no, key.bucket, key.subject_no)
    return found


def _stored(phases: Mapping[Phase, Passed]) -> dict[str, Any]:
    return {
        phase.value: {
            "ended_at": passed.ended_at.isoformat() if passed.ended_at else None,
            "counts": dict(passed.counts),
        }
        for phase, passed in phases.items()
    }


def _erasure(row: Record) -> Erasure:
    return Erasure(
        erasure_id=row["erasure_id"],
        subject_ref=row["subject_ref"],
        origin=Origin(row["origin"]),
        ids=row["ids"],
        phase=Phase(row["phase"]),
        phases={
            phase: Passed(
                ended_at=datetime.fromisoformat(passed["ended_at"]) if passed["ended_at"] else None,
                counts=passed["counts"],
            )
            for phase in Phase
            if (passed := row["phases"].get(phase.value)) is not None
        },
        requested_at=row["requested_at"],
        ended_at=row["ended_at"],
        lifted_at=row["lifted_at"],
        refused=row["refused"],
        refused_at=row["refused_at"],
    )
