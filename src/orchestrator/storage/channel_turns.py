"""Turns at channels that have a rate: how much of it is used, and the sends that wait, in their order.

Whoever decides about an execution holds its subject, and then takes its row here; whoever takes a turn holds the
channel's row first, and no subject, and whoever lets out passes over rows that are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.domain.channel_rate import ChannelRate
from orchestrator.domain.project import ProjectSettings, stored_settings
from orchestrator.domain.scope import SubjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """How a channel stands to an execution. `used_to`: the rate has been used up to then; `closed_until`: the provider
    wants nothing before. `waited_for`: others wait. `waits`: this one does; `let_out`: it has been told to go on.
    """

    used_to: datetime
    closed_until: datetime | None
    waited_for: bool
    waits: bool = False
    let_out: bool = False


_FIND = """
SELECT t.channel, t.used_to, t.closed_until,
       EXISTS (SELECT FROM waiting_sends AS w
                WHERE w.project_no = t.project_no AND w.channel = t.channel AND w.let_out_at IS NULL) AS waited_for,
       mine.execution_id IS NOT NULL AS waits, mine.let_out_at IS NOT NULL AS let_out
  FROM channel_turns AS t
  LEFT JOIN waiting_sends AS mine
    ON mine.project_no = t.project_no AND mine.channel = t.channel AND mine.execution_id = $2
 WHERE t.project_no = $1
"""


async def find(conn: Connection[Record], project_no: int, execution_id: UUID | None = None) -> dict[str, Turn]:
    """The channels of a project that were used since they had a rate, as they stand to this execution (None: to one
    that is not there yet). Nothing is held: who goes by it has still to `take`.
    """
    rows = await conn.fetch(_FIND, project_no, execution_id)
    return {row["channel"]: Turn(**{name: value for name, value in row.items() if name != "channel"}) for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A send of an execution that is to wait."""

    channel: str
    rank: int
    execution_id: UUID


_ENSURE = """
INSERT INTO channel_turns (project_no, channel, used_to)
SELECT DISTINCT $1::int, channel, $3::timestamptz FROM unnest($2::text[]) AS channel
ON CONFLICT (project_no, channel) DO NOTHING
"""

# One that was let out in vain waits on, in its place.
_JOIN = """
INSERT INTO waiting_sends (project_no, channel, rank, execution_id, since)
SELECT $1, w.channel, w.rank, w.execution_id, $5
  FROM unnest($2::text[], $3::smallint[], $4::uuid[]) WITH ORDINALITY AS w (channel, rank, execution_id, no)
 ORDER BY w.no
ON CONFLICT (project_no, execution_id) DO NOTHING
"""


async def join(conn: Connection[Record], project_no: int, waiting: Sequence[Waiting], now: datetime) -> None:
    """Have these wait, behind those of their rank; one that waits already keeps its place."""
    if not waiting:
        return
    channels = [one.channel for one in waiting]
    await conn.execute(_ENSURE, project_no, channels, now)
    await conn.execute(
        _JOIN, project_no, channels, [one.rank for one in waiting], [one.execution_id for one in waiting], now
    )


_LEAVE = "DELETE FROM waiting_sends WHERE project_no = $1 AND execution_id = $2"


async def leave(conn: Connection[Record], project_no: int, execution_id: UUID) -> None:
    """This one does not wait any more."""
    await conn.execute(_LEAVE, project_no, execution_id)


_TURN_AWAY = "UPDATE waiting_sends SET let_out_at = NULL WHERE project_no = $1 AND execution_id = $2"


async def turn_away(conn: Connection[Record], project_no: int, execution_id: UUID) -> None:
    """This one was let out too early: it waits in its place, if it has one."""
    await conn.execute(_TURN_AWAY, project_no, execution_id)


# Of leads, those of one in eight: neither a single slow one counts for much, nor is a change noticed late.
_TAKE = """
WITH turn AS (
    INSERT INTO channel_turns AS t (project_no, channel, used_to)
    VALUES ($1, $2, clock_timestamp() + $4::interval)
    ON CONFLICT (project_no, channel) DO UPDATE
       SET used_to = greatest(t.used_to, t.closed_until, clock_timestamp()) + $4::interval,
           lead = t.lead + coalesce(
               (SELECT least(5, extract(epoch FROM clock_timestamp() - w.let_out_at)) - t.lead FROM waiting_sends AS w
                 WHERE w.project_no = $1 AND w.execution_id = $3 AND w.let_out_at IS NOT NULL), 0) / 8
     WHERE greatest(t.used_to - $5::interval, t.closed_until) <= clock_timestamp() + $6::interval
    RETURNING greatest(t.used_to - $4::interval - $5::interval, t.closed_until) - clock_timestamp() AS wait
), gone AS (
    DELETE FROM waiting_sends WHERE project_no = $1 AND execution_id = $3 AND EXISTS (SELECT FROM turn)
)
SELECT greatest(wait, interval '0') FROM turn
"""


async def take(
    conn: Connection[Record], project_no: int, rate: ChannelRate, execution_id: UUID, at_most: timedelta
) -> timedelta | None:
    """Take the channel's next turn for a call of this execution: how long to wait for it. None: it does not come within
    `at_most`, and was not taken. The channel's row is held until the transaction ends.
    """
    wait: timedelta | None = await conn.fetchval(
        _TAKE, project_no, rate.channel, execution_id, rate.gap, rate.slack, at_most
    )
    return wait


_CLOSE = """
UPDATE channel_turns SET closed_until = greatest(closed_until, clock_timestamp() + $3::interval)
 WHERE project_no = $1 AND channel = $2
"""


async def close(conn: Connection[Record], project_no: int, channel: str, pause: timedelta) -> None:
    """The provider wants nothing for so long."""
    await conn.execute(_CLOSE, project_no, channel, pause)


_WAITED_FOR = """
SELECT t.project_no, t.channel FROM channel_turns AS t
 WHERE EXISTS (SELECT FROM waiting_sends AS w WHERE w.project_no = t.project_no AND w.channel = t.channel)
"""


async def waited_for(conn: Connection[Record]) -> list[tuple[int, str]]:
    """The channels (project, name) for which sends wait."""
    return [(row["project_no"], row["channel"]) for row in await conn.fetch(_WAITED_FOR)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A channel at which this transaction lets out. `out`: how many have been let out and have not taken their turn;
    `on_the_way`: those of them of whom it can be expected. `rate` None: it has none any more.
    """

    rate: ChannelRate | None
    used_to: datetime
    closed_until: datetime | None
    lead: timedelta
    out: int
    on_the_way: int
    now: datetime


_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"

# In one snapshot: who takes his turn is on his way no longer.
_GATE = """
SELECT t.used_to, t.closed_until, t.lead, p.settings, clock_timestamp() AS now, w.on_the_way, w.out
  FROM channel_turns AS t
  JOIN projects AS p USING (project_no)
 CROSS JOIN LATERAL (
       SELECT count(*) AS out,
              count(*) FILTER (WHERE let_out_at > clock_timestamp() - greatest(interval '1 second',
                                                                               t.lead * interval '4 seconds'))
                  AS on_the_way
         FROM waiting_sends
        WHERE project_no = t.project_no AND channel = t.channel AND let_out_at IS NOT NULL) AS w
 WHERE t.project_no = $1 AND t.channel = $2
"""


async def hold(conn: Connection[Record], project_no: int, channel: str) -> Gate | None:
    """Let nobody else let out here until the transaction ends; None when somebody does. Turns are taken meanwhile."""
    if not await conn.fetchval(_TRY_LOCK, f"turns of {project_no}/{channel}"):
        return None
    row = await conn.fetchrow(_GATE, project_no, channel)
    assert row is not None, "rows of channels are never deleted"
    settings: ProjectSettings = stored_settings(row["settings"])
    return Gate(
        rate=settings.channel_rate(channel),
        used_to=row["used_to"],
        closed_until=row["closed_until"],
        lead=timedelta(seconds=row["lead"]),
        out=row["out"],
        on_the_way=row["on_the_way"],
        now=row["now"],
    )


_LET_OUT = """
WITH chosen AS (
    SELECT rank, waiting_no, let_out_at IS NOT NULL AS again FROM waiting_sends
     WHERE project_no = $1 AND channel = $2 AND (let_out_at IS NULL OR let_out_at < $4::timestamptz - $5::interval)
     ORDER BY rank, waiting_no LIMIT $3 FOR UPDATE SKIP LOCKED
), out AS (
    UPDATE waiting_sends AS w SET let_out_at = $4 FROM chosen AS c
     WHERE w.project_no = $1 AND w.channel = $2 AND w.rank = c.rank AND w.waiting_no = c.waiting_no
    RETURNING w.execution_id, c.again
)
SELECT out.execution_id, e.bucket, e.subject_no, e.workflow_id,
       out.again AND EXISTS (SELECT FROM outbox AS o WHERE o.execution_id = out.execution_id AND o.kind = 'poke')
           AS untold
  FROM out LEFT JOIN executions AS e
    ON e.project_no = $1 AND e.execution_id = out.execution_id AND e.outcome IS NULL
"""

_FORGET = "DELETE FROM waiting_sends WHERE project_no = $1 AND execution_id = ANY ($2::uuid[])"

#: An execution as the outbox knows it.
Told = tuple[SubjectKey, UUID, str]


async def let_out(
    conn: Connection[Record],
    project_no: int,
    channel: str,
    limit: int,
    now: datetime,
    patience: timedelta,
    *,
    for_good: bool = False,
) -> list[Told]:
    """The next so many are to go on; those who have ended meanwhile are forgotten, as are all with `for_good`. One that
    was let out longer than `patience` ago and has not taken its turn is let out once more; it is not returned while
    Temporal has still to be told of the last time.
    """
    rows = await conn.fetch(_LET_OUT, project_no, channel, limit, now, patience)
    ended = [row["execution_id"] for row in rows if for_good or row["workflow_id"] is None]
    if ended:
        await conn.execute(_FORGET, project_no, ended)
    return [
        (
            SubjectKey(project_no=project_no, bucket=row["bucket"], subject_no=row["subject_no"]),
            row["execution_id"],
            row["workflow_id"],
        )
        for row in rows
        if row["workflow_id"] is not None and not row["untold"]
    ]


_LENGTHS = "SELECT channel, count(*) AS waiting FROM waiting_sends GROUP BY channel"


async def lengths(conn: Connection[Record]) -> Mapping[str, int]:
    """How many sends wait, of all projects, by channel."""
    return {row["channel"]: row["waiting"] for row in await conn.fetch(_LENGTHS)}
