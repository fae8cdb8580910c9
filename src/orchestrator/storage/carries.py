"""Executions that go over to another version. A mark is set under the subject's lock; whoever is marked is poked, and
goes over at that look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.carrying import CarryMode, Order
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import barriers, execution_pages
from orchestrator.storage.execution_pages import FIRST, Page, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """The going over to a version of a journey. `ended_at` None: workers are at it.

    `matched` counts those on older versions when it was asked for; `told` those who have been told to go over so far,
    and `stayed`, by reason, those who stay.
    """

    journey_id: str
    version: int
    order: Order
    matched: int
    requested_at: datetime
    told: int = 0
    stayed: Mapping[str, int] = field(default_factory=dict)
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many executions under way stand on one step of one version."""

    version: int
    step_id: str
    count: int


_STANDING = """
SELECT version, step_id, count(*) AS count
  FROM executions
 WHERE project_no = $1 AND journey_id = $2 AND outcome IS NULL AND cancel_reason IS NULL AND version < $3
 GROUP BY version, step_id
 ORDER BY version DESC, count DESC, step_id
"""


async def standing(conn: Connection[Record], project_no: int, journey_id: str, below: int) -> list[Crowd]:
    """Who is under way on versions below this one, and is not to end."""
    return [Crowd(**row) for row in await conn.fetch(_STANDING, project_no, journey_id, below)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """On a step of a version: how long one waits there, and how long one travels; None: for ever."""

    version: int
    step_id: str
    waits: timedelta | None
    lives: timedelta | None


_OVER = """
SELECT count(*) FILTER (WHERE e.since + asked.waits <= $8) AS waited,
       count(*) FILTER (WHERE e.started_at + asked.lives <= $8) AS expired
  FROM unnest($3::int[], $4::text[], $5::interval[], $6::interval[])
       WITH ORDINALITY AS asked (version, step_id, waits, lives, no)
  LEFT JOIN executions AS e
    ON e.project_no = $1 AND e.journey_id = $2 AND e.outcome IS NULL AND e.cancel_reason IS NULL AND e.version < $7
   AND e.version = asked.version AND e.step_id = asked.step_id
 GROUP BY asked.no
 ORDER BY asked.no
"""


async def over(
    conn: Connection[Record], project_no: int, journey_id: str, below: int, limits: Sequence[Limit], now: datetime
) -> list[tuple[int, int]]:
    """Of each: how many have waited there for as long as that, and how many have travelled so."""
    rows = await conn.fetch(
        _OVER, project_no, journey_id, [limit.version for limit in limits], [limit.step_id for limit in limits],
        [limit.waits for limit in limits], [limit.lives for limit in limits], below, now,
    )  # fmt: skip
    return [(row["waited"], row["expired"]) for row in rows]


_KNOWN_STEPS = """
SELECT DISTINCT step ->> 'id' AS step_id
  FROM journey_versions AS v
 CROSS JOIN LATERAL jsonb_array_elements(v.definition -> 'steps') AS step
 WHERE v.project_no = $1 AND v.journey_id = $2 AND step ->> 'id' = ANY ($3::text[])
"""


async def known_steps(conn: Connection[Record], project_no: int, journey_id: str, step_ids: Sequence[str]) -> set[str]:
    """Those of these steps that any version of the journey has."""
    rows = await conn.fetch(_KNOWN_STEPS, project_no, journey_id, list(step_ids))
    return {row["step_id"] for row in rows}


_INSERT = """
INSERT INTO carries (project_no, journey_id, version, mode, mapping, matched, requested_at, moved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
"""


async def insert(conn: Connection[Record], project_no: int, carry: Carry) -> None:
    """Ask for it: workers begin after the commit."""
    await conn.execute(
        _INSERT, project_no, carry.journey_id, carry.version, carry.order.mode.value, dict(carry.order.mapping),
        carry.matched, carry.requested_at,
    )  # fmt: skip


_COLUMNS = "journey_id, version, mode, mapping, matched, told, stayed, requested_at, ended_at"

_FIND = f"SELECT {_COLUMNS} FROM carries WHERE project_no = $1 AND journey_id = $2 AND version = $3"


async def find(conn: Connection[Record], project_no: int, journey_id: str, version: int) -> Carry | None:
    row = await conn.fetchrow(_FIND, project_no, journey_id, version)
    return _carry(row) if row else None


_PAGE = f"""
SELECT {_COLUMNS} FROM carries
 WHERE project_no = $1 AND journey_id = $2 AND requested_at >= $3 AND ($4::bigint IS NULL OR version < $4)
 ORDER BY version DESC
 LIMIT $5
"""


async def page(
    conn: Connection[Record], project_no: int, journey_id: str, *, since: datetime, before: int | None, limit: int
) -> list[Carry]:
    """At most `limit` that were asked for since then, those to the newest version first, to versions below `before`."""
    return [_carry(row) for row in await conn.fetch(_PAGE, project_no, journey_id, since, before, limit)]


_PENDING = """
SELECT carry_version AS version, count(*) AS count FROM executions
 WHERE project_no = $1 AND journey_id = $2 AND carry_version = ANY ($3::int[])
 GROUP BY carry_version
"""


async def pending(
    conn: Connection[Record], project_no: int, journey_id: str, versions: Sequence[int]
) -> dict[int, int]:
    """How many have been told to go over to each of these versions, and have not looked since."""
    rows = await conn.fetch(_PENDING, project_no, journey_id, list(versions))
    return {row["version"]: row["count"] for row in rows}


_NEXT = f"""
SELECT project_no, {_COLUMNS}, barrier, started_at, execution_id
  FROM carries
 WHERE ended_at IS NULL
   AND (started_at IS NOT NULL OR {barriers.PASSED})
 ORDER BY moved_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A carry that this transaction works on, and how far it has come: the start and id of an execution.

    `barrier` None: nobody has looked yet who may still be letting somebody in; `place` None: nobody else has been
    looked at.
    """

    project_no: int
    carry: Carry
    barrier: int | None
    place: Place | None


async def take(conn: Connection[Record]) -> UnderWay | None:
    """The one that has waited longest; None when there is none, or somebody else is at it. One whose barrier stands is
    left alone until all transactions from before it have ended: then nobody comes into an older version any more.
    """
    row = await conn.fetchrow(_NEXT)
    if row is None:
        return None
    place = (row["started_at"], row["execution_id"]) if row["started_at"] is not None else None
    return UnderWay(project_no=row["project_no"], carry=_carry(row), barrier=row["barrier"], place=place)


_RAISE_BARRIER = f"""
UPDATE carries SET barrier = {barriers.RAISED}, moved_at = $4
 WHERE project_no = $1 AND journey_id = $2 AND version = $3
"""

_BEGIN = "UPDATE carries SET started_at = $4, moved_at = $4 WHERE project_no = $1 AND journey_id = $2 AND version = $3"


async def raise_barrier(conn: Connection[Record], under_way: UnderWay, now: datetime) -> None:
    """Note which transactions may have begun before the version was published: those of smaller numbers than this one,
    which has met it published. Whoever lets somebody in has taken the subject's lock, and so has a number, before they
    read which version is the newest.
    """
    carry = under_way.carry
    await conn.execute(_RAISE_BARRIER, under_way.project_no, carry.journey_id, carry.version, now)


async def begin(conn: Connection[Record], under_way: UnderWay, now: datetime) -> tuple[datetime, UUID]:
    """Whoever is meant has started by now: the place to begin at."""
    carry = under_way.carry
    await conn.execute(_BEGIN, under_way.project_no, carry.journey_id, carry.version, now)
    return now, UUID(int=0)


# Who is told to go over to a newer version already, goes there. Who is told to end, ends.
_MEANT = """
       e.outcome IS NULL AND e.cancel_reason IS NULL AND e.version < {version}
   AND (e.carry_version IS NULL OR e.carry_version < {version})
"""

_LOOK = execution_pages.statement(_MEANT.format(version=f"${FIRST}"))


async def look(conn: Connection[Record], under_way: UnderWay, place: Place, limit: int) -> Page:
    """The next executions of the journey, `limit` of them looked at: those on older versions are meant."""
    carry = under_way.carry
    return await execution_pages.page(conn, _LOOK, under_way.project_no, carry.journey_id, place, limit, carry.version)


_PLACES = f"""
SELECT e.execution_id, e.version, e.step_id FROM executions AS e
 WHERE e.project_no = $1 AND e.execution_id = ANY ($2::uuid[]) AND {_MEANT.format(version="$3")}
"""


async def places(
    conn: Connection[Record], under_way: UnderWay, execution_ids: Sequence[UUID]
) -> list[tuple[UUID, int, str]]:
    """Of those who are still meant: execution, version, step. Their subjects are held."""
    rows = await conn.fetch(_PLACES, under_way.project_no, list(execution_ids), under_way.carry.version)
    return [(row["execution_id"], row["version"], row["step_id"]) for row in rows]


# Leased until now: no process has promised to deliver the pokes, so the next sweep does.
_MARK_AND_POKE = """
WITH marked AS (
    UPDATE executions SET carry_version = $3
     WHERE project_no = $1 AND execution_id = ANY ($2::uuid[])
    RETURNING project_no, bucket, subject_no, execution_id, workflow_id
)
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
SELECT project_no, bucket, subject_no, execution_id, 'poke', workflow_id, $4, $4 FROM marked
"""


async def mark_and_poke(
    conn: Connection[Record], under_way: UnderWay, execution_ids: Sequence[UUID], now: datetime
) -> None:
    """These executions go over soon. Their subjects are held."""
    if execution_ids:
        await conn.execute(_MARK_AND_POKE, under_way.project_no, list(execution_ids), under_way.carry.version, now)


_GO_ON = """
UPDATE carries
   SET told = told + $4, stayed = $5, started_at = coalesce($6, started_at), execution_id = coalesce($7, execution_id),
       moved_at = $8::timestamptz, ended_at = CASE WHEN $9::bool THEN $8::timestamptz END
 WHERE project_no = $1 AND journey_id = $2 AND version = $3
"""


async def go_on(
    conn: Connection[Record],
    under_way: UnderWay,
    *,
    told: int,
    stayed: Mapping[str, int],
    place: Place | None,
    now: datetime,
) -> None:
    """Note how far it has come; without a `place`, that it has come to its end. `stayed` are all that do so far."""
    started_at, execution_id = place or (None, None)
    await conn.execute(
        _GO_ON, under_way.project_no, under_way.carry.journey_id, under_way.carry.version, told, dict(stayed),
        started_at, execution_id, now, place is None,
    )  # fmt: skip


_SENT = """
SELECT step_id FROM sends
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND version = $5 AND state <> 'failed'
 UNION
SELECT step_id FROM webhook_calls
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND version = $5
   AND (state = 'answered' OR in_doubt)
 UNION
SELECT step_id FROM visits
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4 AND version = $5
   AND step_kind = 'emit_event' AND result = 'executed'
"""


async def sent_by(conn: Connection[Record], key: SubjectKey, execution_id: UUID, version: int) -> set[str]:
    """The steps of this version whose messages, calls and events the execution has sent, as far as anybody knows."""
    rows = await conn.fetch(_SENT, key.project_no, key.bucket, key.subject_no, execution_id, version)
    return {row["step_id"] for row in rows}


def _carry(row: Record) -> Carry:
    return Carry(
        journey_id=row["journey_id"],
        version=row["version"],
        order=Order(mode=CarryMode(row["mode"]), mapping=row["mapping"]),
        matched=row["matched"],
        told=row["told"],
        stayed=row["stayed"],
        requested_at=row["requested_at"],
        ended_at=row["ended_at"],
    )
