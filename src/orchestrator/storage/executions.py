"""Executions in Postgres: where each stands. Callers hold the subject's row lock and own the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record
from orjson import Fragment, dumps

from orchestrator.domain.execution import Position, Visit
from orchestrator.domain.gates import Consent
from orchestrator.domain.project import ProjectSettings, stored_settings
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage.sends import Send
from orchestrator.storage.webhook_calls import ANSWERS, Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An execution as it stands, with what let it in and what its subject refused, all of one snapshot.

    `entry` is what `$entry.` reads: the triggering event's properties, as they were; `entry_key`, `triggered_at` and
    `goal_revision` are those of the enrollment, and so are `hops` (domain/entry.py, Trigger). `send` and `call` are the
    ledgers' rows of this `seq`; `steps` is what `$steps.` reads. `settings` are the project's. `sends_paused`: whether
    the project or the journey sends nothing for now. `now` is the database's clock, read after the lock.
    """

    execution_id: UUID
    journey_id: str
    version: int
    workflow_id: str
    seq: int
    position: Position
    # temporal/contract.py: Effect, as fields
    effect: dict[str, Any]
    started_at: datetime
    ended: bool
    parked: bool
    # why it was told to end (storage/cancellations.py)
    cancel_reason: str | None
    # the version it goes over to (storage/carries.py); None: it stays
    carry_version: int | None
    # the steps of its version whose messages it sent before it went over to it
    sent_before: frozenset[str]
    # None: the journey is gone
    journey_status: str | None
    on_archive: str | None
    consent: Consent
    entry: dict[str, Any]
    entry_key: str
    triggered_at: datetime
    goal_revision: int
    hops: int
    steps: dict[str, Any]
    settings: ProjectSettings
    sends_paused: bool
    send: Send | None
    call: Call | None
    now: datetime


_STANDING = f"""
SELECT e.execution_id, e.journey_id, e.version, e.workflow_id, e.seq, e.step_id, e.since, e.mark, e.effect,
       e.started_at, e.outcome IS NOT NULL AS ended, e.parked, e.cancel_reason, e.carry_version, e.sent_before,
       j.status AS journey_status, j.on_archive,
       ARRAY(SELECT ARRAY[o.channel, o.category] FROM opt_outs AS o
              WHERE (o.project_no, o.bucket, o.subject_no) = ($1, $2, $3)) AS opt_outs,
       ARRAY(SELECT s.channel FROM suppressions AS s
              WHERE (s.project_no, s.bucket, s.subject_no) = ($1, $2, $3)) AS suppressed,
       n.entry, n.entry_key, n.triggered_at, n.goal_revision, n.hops,
       ({ANSWERS}) AS steps,
       (SELECT p.settings FROM projects AS p WHERE p.project_no = $1) AS settings,
       EXISTS (SELECT FROM sends_pauses AS h WHERE h.project_no = $1 AND h.journey_id IN ('', e.journey_id)) AS paused,
       d.state, d.attempt, d.in_doubt, d.reason, d.content_revision, d.reserved_at, d.retry_at,
       c.state AS call_state, c.attempt AS call_attempt, c.in_doubt AS call_in_doubt, c.reason AS call_reason,
       c.reserved_at AS call_reserved_at, c.retry_at AS call_retry_at, clock_timestamp() AS now
  FROM executions AS e
  LEFT JOIN journeys AS j ON j.project_no = e.project_no AND j.journey_id = e.journey_id
  LEFT JOIN enrollments AS n
    ON n.project_no = $1 AND n.bucket = $2 AND n.subject_no = $3 AND n.enrollment_id = $4
  LEFT JOIN sends AS d
    ON d.project_no = $1 AND d.bucket = $2 AND d.subject_no = $3 AND d.execution_id = $4 AND d.seq = e.seq
  LEFT JOIN webhook_calls AS c
    ON c.project_no = $1 AND c.bucket = $2 AND c.subject_no = $3 AND c.execution_id = $4 AND c.seq = e.seq
 WHERE e.project_no = $1 AND e.bucket = $2 AND e.subject_no = $3 AND e.execution_id = $4
"""


async def find(conn: Connection[Record], key: SubjectKey, execution_id: UUID) -> Standing | None:
    """The execution, or None when it was erased."""
    row = await conn.fetchrow(_STANDING, key.project_no, key.bucket, key.subject_no, execution_id)
    if row is None:
        return None
    return Standing(
        execution_id=row["execution_id"],
        journey_id=row["journey_id"],
        version=row["version"],
        workflow_id=row["workflow_id"],
        seq=row["seq"],
        position=Position(step_id=row["step_id"], since=row["since"], mark=row["mark"]),
        effect=row["effect"],
        started_at=row["started_at"],
        ended=row["ended"],
        parked=row["parked"] is not None,
        cancel_reason=row["cancel_reason"],
        carry_version=row["carry_version"],
        sent_before=frozenset(row["sent_before"] or ()),
        journey_status=row["journey_status"],
        on_archive=row["on_archive"],
        consent=Consent(
            opt_outs=frozenset((channel, category) for channel, category in row["opt_outs"]),
            suppressed=frozenset(row["suppressed"]),
        ),
        entry=row["entry"] or {},
        entry_key=row["entry_key"] or "",
        triggered_at=row["triggered_at"] or row["started_at"],
        goal_revision=row["goal_revision"] or 0,
        hops=row["hops"] or 0,
        steps=row["steps"] or {},
        settings=stored_settings(row["settings"]),
        sends_paused=row["paused"],
        send=Send(
            state=row["state"],
            attempt=row["attempt"],
            in_doubt=row["in_doubt"],
            reason=row["reason"],
            content_revision=row["content_revision"],
            reserved_at=row["reserved_at"],
            retry_at=row["retry_at"],
        )
        if row["state"] is not None
        else None,
        call=Call(
            state=row["call_state"],
            attempt=row["call_attempt"],
            in_doubt=row["call_in_doubt"],
            reason=row["call_reason"],
            reserved_at=row["call_reserved_at"],
            retry_at=row["call_retry_at"],
        )
        if row["call_state"] is not None
        else None,
        now=row["now"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    outcome: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a decision leaves in the row: of what has ended, nothing that was made of an attribute.

    `awaits`: domain/conditions.py, topics.
    """

    seq: int
    position: Position
    effect: dict[str, Any]
    wakes_at: datetime | None
    parked: str | None
    ending: Ending | None
    awaits: Sequence[str] = ()


_DECIDE = """
WITH passed AS (
    INSERT INTO visits (project_no, bucket, subject_no, execution_id, seq, place, step_id, step_kind, journey_id,
                        version, result, reason, entered_at, left_at)
    SELECT $1, $2, $3, $4, $5, v.place, v.step_id, v.step_kind, $13, coalesce(v.version, $14), v.result, v.reason,
           v.entered_at, v.left_at
      FROM unnest($15::smallint[], $16::text[], $17::text[], $18::text[], $19::text[], $20::timestamptz[],
                  $21::timestamptz[], $25::int[])
           AS v (place, step_id, step_kind, result, reason, entered_at, left_at, version)
)
UPDATE executions
   SET seq = $5, step_id = $6, since = $7, effect = $8, wakes_at = $9, parked = $10,
       outcome = $11, reason = $12, ended_at = $22, mark = $23, awaits = $24, version = $14, carry_version = NULL,
       sent_before = $26
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4
"""


def _columns(visits: Sequence[Visit]) -> tuple[list[Any], ...]:
    return (
        list(range(len(visits))),
        [v.step_id for v in visits],
        [v.step_kind for v in visits],
        [v.result.value for v in visits],
        [v.reason for v in visits],
        [v.entered_at for v in visits],
        [v.left_at for v in visits],
    )


async def decide(
    conn: Connection[Record], key: SubjectKey, standing: Standing, state: State, visits: Sequence[Visit]
) -> None:
    """Write what was decided: the visits and the new standing, in one statement. Of `standing` its version and what it
    sent before are written as well: one that goes over has new ones.
    """
    await conn.execute(
        _DECIDE,
        key.project_no, key.bucket, key.subject_no, standing.execution_id, state.seq,
        state.position.step_id, state.position.since, state.effect, state.wakes_at, state.parked,
        state.ending.outcome if state.ending else None, state.ending.reason if state.ending else None,
        standing.journey_id, standing.version, *_columns(visits), state.ending.at if state.ending else None,
        None if state.ending else state.position.mark, state.awaits or None, [v.version for v in visits],
        sorted(standing.sent_before) or None,
    )  # fmt: skip


_STILL_WAITING = """
UPDATE executions
   SET wakes_at = $5, parked = $6, awaits = $7, effect = $8,
       run_since = CASE WHEN wakes_at IS NOT NULL AND $5 IS NULL THEN $9 ELSE run_since END
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND execution_id = $4
   AND (wakes_at, parked, awaits, effect) IS DISTINCT FROM ($5, $6, $7, $8)
"""


async def keep_waiting(
    conn: Connection[Record], key: SubjectKey, execution_id: UUID, state: State, now: datetime
) -> None:
    """Note until when it waits and what for, or that it is to do what its step does, from `now` on.

    No decision was made: `seq` stays.
    """
    await conn.execute(
        _STILL_WAITING,
        key.project_no, key.bucket, key.subject_no, execution_id, state.wakes_at, state.parked, state.awaits or None,
        state.effect, now,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExecution:
    """An execution about to be written, with what its first decision left."""

    key: SubjectKey
    execution_id: UUID
    journey_id: str
    version: int
    workflow_id: str
    state: State
    visits: tuple[Visit, ...]
    started_at: datetime


_INSERT = """
INSERT INTO executions (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq, step_id,
                        since, effect, wakes_at, parked, outcome, reason, started_at, ended_at, mark, awaits)
SELECT project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq, step_id, since, effect,
       wakes_at, parked, outcome, reason, started_at, ended_at, mark,
       CASE WHEN awaits IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(awaits)) END
  FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::uuid[], $5::text[], $6::int[], $7::text[], $8::int[],
              $9::text[], $10::timestamptz[], $11::jsonb[], $12::timestamptz[], $13::text[], $14::text[], $15::text[],
              $16::timestamptz[], $17::timestamptz[], $18::text[], $19::jsonb[])
       AS new (project_no, bucket, subject_no, execution_id, journey_id, version, workflow_id, seq, step_id, since,
               effect, wakes_at, parked, outcome, reason, started_at, ended_at, mark, awaits)
"""

_INSERT_VISITS = """
INSERT INTO visits (project_no, bucket, subject_no, execution_id, seq, journey_id, version,
                    place, step_id, step_kind, result, reason, entered_at, left_at)
SELECT * FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::uuid[], $5::int[], $6::text[], $7::int[],
                     $8::smallint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[],
                     $14::timestamptz[])
"""


async def insert(conn: Connection[Record], new: Sequence[NewExecution]) -> None:
    """Write executions that begin, with the visits of their first decision."""
    if not new:
        return
    rows = [
        (
            *_key(n.key), n.execution_id, n.journey_id, n.version, n.workflow_id, n.state.seq,
            n.state.position.step_id, n.state.position.since, n.state.effect, n.state.wakes_at, n.state.parked,
            n.state.ending.outcome if n.state.ending else None, n.state.ending.reason if n.state.ending else None,
            n.started_at, n.state.ending.at if n.state.ending else None,
            None if n.state.ending else n.state.position.mark,
            Fragment(dumps(n.state.awaits)) if n.state.awaits else None,  # a list would be taken for part of the array
        )
        for n in new
    ]  # fmt: skip
    await conn.execute(_INSERT, *map(list, zip(*rows, strict=True)))
    passed = [
        (*_key(n.key), n.execution_id, n.state.seq, n.journey_id, n.version, *cells)
        for n in new
        for cells in zip(*_columns(n.visits), strict=True)
    ]
    if passed:
        await conn.execute(_INSERT_VISITS, *map(list, zip(*passed, strict=True)))


def _key(key: SubjectKey) -> tuple[int, int, int]:
    return key.project_no, key.bucket, key.subject_no


_CLOSE_ALL = """
UPDATE executions
   SET seq = seq + 1, effect = $4::jsonb || jsonb_build_object('seq', seq + 1, 'step_id', step_id), wakes_at = NULL,
       parked = NULL, mark = NULL, awaits = NULL, carry_version = NULL, outcome = $5, reason = $6, ended_at = $7
 WHERE project_no = $1 AND bucket = $2 AND subject_no = $3 AND outcome IS NULL
"""

_CLOSE = f"""{_CLOSE_ALL} AND execution_id = $8
RETURNING journey_id, step_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """An execution that was ended from outside, and where it stood."""

    journey_id: str
    step_id: str


async def close(
    conn: Connection[Record], key: SubjectKey, execution_id: UUID, *, effect: dict[str, Any], ending: Ending
) -> Closed | None:
    """End an execution from outside, where it stands; None when it has ended already.

    `effect` is the end's, without `seq`.
    """
    row = await conn.fetchrow(_CLOSE, *_key(key), effect, ending.outcome, ending.reason, ending.at, execution_id)
    return Closed(**row) if row else None


async def close_all(conn: Connection[Record], key: SubjectKey, *, effect: dict[str, Any], ending: Ending) -> int:
    """`close`, for all executions of a subject; how many had not ended."""
    tag = await conn.execute(_CLOSE_ALL, *_key(key), effect, ending.outcome, ending.reason, ending.at)
    return int(tag.rsplit(" ", 1)[1])


# One probe for each, as in storage/subjects.py. Temporal knows a subject that was merged by the key it had.
_STILL_OPEN = """
SELECT e.execution_id
  FROM unnest($1::int[], $2::smallint[], $3::bigint[], $4::uuid[])
       AS asked (project_no, bucket, subject_no, execution_id)
  LEFT JOIN subject_aliases AS a
    ON a.project_no = asked.project_no AND a.alias_bucket = asked.bucket AND a.alias_no = asked.subject_no
 CROSS JOIN LATERAL (
       SELECT execution_id FROM executions
        WHERE project_no = asked.project_no AND bucket = coalesce(a.bucket, asked.bucket)
          AND subject_no = coalesce(a.subject_no, asked.subject_no)
          AND execution_id = asked.execution_id AND outcome IS NULL
       OFFSET 0) AS e
"""


async def still_open(conn: Connection[Record], asked: Sequence[tuple[SubjectKey, UUID]]) -> set[UUID]:
    """Those of these executions that have not ended."""
    rows = await conn.fetch(
        _STILL_OPEN,
        [key.project_no for key, _ in asked],
        [key.bucket for key, _ in asked],
        [key.subject_no for key, _ in asked],
        [execution_id for _, execution_id in asked],
    )
    return {row["execution_id"] for row in rows}


_OUTLIVED = """
SELECT EXISTS (
    SELECT FROM executions AS e
     WHERE e.project_no = $1 AND e.execution_id = $2 AND e.outcome IS NOT NULL
       AND NOT EXISTS (SELECT FROM subjects AS s
                        WHERE s.project_no = e.project_no AND s.bucket = e.bucket AND s.subject_no = e.subject_no))
"""


async def outlived_its_subject(conn: Connection[Record], project_no: int, execution_id: UUID) -> bool:
    """Whether this is an execution that has ended, of a subject that was deleted afterwards."""
    outlived: bool = await conn.fetchval(_OUTLIVED, project_no, execution_id)
    return outlived
