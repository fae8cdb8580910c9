"""Ending executions from outside: each is marked under its subject's lock and poked, and ends at that look, as the core
says. So an end from outside and a decision of its own never cross.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application.executions import no_execution, require_journey
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import EXECUTION_CANCELED, EXECUTIONS_CANCEL_REQUESTED, EXECUTIONS_CANCELED, RUNTIME
from orchestrator.domain.cancellation import CANCELED, Cancellation, Count, Filter
from orchestrator.domain.ids import new_id
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.predicates.faults import Fault
from orchestrator.storage import audit, cancellations, clock, executions_read, outbox, subjects
from orchestrator.storage.cancellations import Meant
from orchestrator.storage.executions_read import Shown
from orchestrator.storage.outbox import Notice

#: Executions looked at in one transaction.
PAGE = 1000

#: While so many pokes have still to be told, no more are added: what else is to be told must not queue behind them.
BACKLOG = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceled:
    """An execution that was told to end, or had ended. `told` is what Temporal is to be told after the commit."""

    execution: Shown
    told: Sequence[Notice]


async def cancel(conn: Connection[Record], scope: Scope, execution_id: str, reason: str) -> Canceled:
    """End one execution where it stands, soon after the commit. One that has ended or is being ended stays as it is.

    Raises NotFound EXECUTION_NOT_FOUND.
    """
    shown, key = await _held(conn, scope, execution_id)
    if shown.outcome is not None or shown.canceling is not None:
        return Canceled(execution=shown, told=())
    now = await clock.now(conn)
    meant = Meant(key=key, execution_id=shown.execution_id, workflow_id=shown.workflow_id, step_id=shown.step_id)
    reason = reason or CANCELED
    await cancellations.mark(conn, [meant], reason, now)
    told = await _tell(conn, [meant], now)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=EXECUTION_CANCELED,
        resource_id=shown.journey_id,
        metadata={"executionId": str(shown.execution_id), "stepId": shown.step_id, "reason": reason},
    )
    return Canceled(execution=replace(shown, canceling=reason), told=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How many executions were meant, and their cancelling. `told` is what Temporal is to be told after the commit."""

    count: Count
    cancellation: Cancellation
    told: Sequence[Notice] = field(default=())


async def count_many(conn: Connection[Record], scope: Scope, journey_id: str, wanted: Filter) -> Count:
    """How many executions meet the filter now. Raises InvalidArgument, and NotFound JOURNEY_NOT_FOUND."""
    wanted.require("filter")
    await require_journey(conn, scope, journey_id)
    if not wanted.subject_ids:
        return await cancellations.count(conn, scope.project_no, journey_id, wanted)
    keys = _all_of(wanted, await subjects.find_keys(conn, scope.project_no, wanted.subject_ids))
    return _counted(await cancellations.of_subjects(conn, scope.project_no, journey_id, wanted, keys))


async def cancel_many(
    conn: Connection[Record], scope: Scope, journey_id: str, wanted: Filter, reason: str, at_most: int
) -> Asked:
    """Have the executions that meet the filter end: those of named subjects at once, others by a worker.

    Raises InvalidArgument with all faults, NotFound JOURNEY_NOT_FOUND, and FailedPrecondition MORE_EXECUTIONS_MATCH.
    """
    wanted.require("filter")
    await require_journey(conn, scope, journey_id)
    meant: list[Meant] = []
    if wanted.subject_ids:
        keys = _all_of(wanted, await subjects.find_locked(conn, scope.project_no, wanted.subject_ids))
        meant = await cancellations.of_subjects(conn, scope.project_no, journey_id, wanted, keys)
        count = _counted(meant)
    else:
        count = await cancellations.count(conn, scope.project_no, journey_id, wanted)
    if count.total > at_most:
        raise FailedPrecondition(
            "MORE_EXECUTIONS_MATCH",
            f"{count.total} executions meet the filter, and atMost is {at_most}",
            journeyId=journey_id,
            count=str(count.total),
        )
    now = await clock.now(conn)
    # Nothing is left to do where the subjects are named. Else somebody may just be let in whom nobody sees yet.
    done = bool(wanted.subject_ids)
    cancellation = Cancellation(
        id=new_id("can"),
        journey_id=journey_id,
        filter=wanted,
        reason=reason or CANCELED,
        matched=count.total,
        canceled=len(meant),
        requested_at=now,
        ended_at=now if done else None,
    )
    await cancellations.insert(conn, scope.project_no, cancellation)
    await cancellations.mark(conn, meant, cancellation.reason, now)
    told = await _tell(conn, meant, now)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=EXECUTIONS_CANCEL_REQUESTED,
        resource_id=journey_id,
        metadata={
            "cancellationId": cancellation.id,
            "reason": cancellation.reason,
            "executions": count.total,
            **wanted.said,
        },
    )
    if done:
        await _note_end(conn, scope.project_no, scope.actor, cancellation)
    return Asked(count=count, cancellation=cancellation, told=told)


async def get(conn: Connection[Record], scope: Scope, cancellation_id: str) -> Cancellation:
    """Raises NotFound CANCELLATION_NOT_FOUND."""
    found = await cancellations.find(conn, scope.project_no, cancellation_id)
    if found is None:
        message = f"there is no cancellation {cancellation_id}"
        raise NotFound("CANCELLATION_NOT_FOUND", message, cancellationId=cancellation_id)
    return found


class Cancellations:
    """Works through what `cancel_many` leaves behind. Processes share the work by locks."""

    def __init__(self, transactions: Transactions, *, page: int = PAGE, backlog: int = BACKLOG) -> None:
        self._transactions = transactions
        self._page = page
        self._backlog = backlog

    async def step(self) -> bool:
        """One page; False when there is nothing to do, or much has still to be told."""
        async with self._transactions.write(None) as conn:
            under_way = await cancellations.take(conn)
            if under_way is None:
                return False
            if under_way.barrier is None:
                await cancellations.raise_barrier(conn, under_way, await clock.now(conn))
                return True
            if await outbox.is_backlog(conn, "poke", self._backlog):
                return False
            page = await cancellations.page(conn, under_way, self._page)
            await hold_subjects(conn, under_way.project_no, page.meant, page.keys)
            now = await clock.now(conn)
            marked = await cancellations.mark_and_poke(conn, under_way, page.meant, now)
            await cancellations.go_on(conn, under_way, marked, page.place, now)
            if page.place is None:
                asked = under_way.cancellation
                ended = replace(asked, canceled=asked.canceled + marked, ended_at=now)
                await _note_end(conn, under_way.project_no, RUNTIME, ended)
            return True


async def hold_subjects(
    conn: Connection[Record], project_no: int, execution_ids: Sequence[UUID], keys: Sequence[SubjectKey] = ()
) -> set[SubjectKey]:
    """Take the rows of the subjects whose executions these are, whomever they have been merged into meanwhile; returns
    those that are there. `keys` are as good as known.
    """
    held = set(await subjects.lock(conn, keys))
    gone: set[SubjectKey] = set()
    while missing := await cancellations.whose(conn, project_no, execution_ids) - held - gone:
        locked = set(await subjects.lock(conn, missing))
        held |= locked
        # Merged, and found under another key at the next look; or deleted, and only what has ended is left.
        gone |= missing - locked
    return held


async def _note_end(conn: Connection[Record], project_no: int, actor: str, ended: Cancellation) -> None:
    assert ended.ended_at is not None, "it has ended"
    await audit.append(
        conn,
        project_no=project_no,
        at=ended.ended_at,
        actor=actor,
        action=EXECUTIONS_CANCELED,
        resource_id=ended.journey_id,
        metadata={"cancellationId": ended.id, "reason": ended.reason, "canceled": ended.canceled},
    )


async def _tell(conn: Connection[Record], meant: Sequence[Meant], now: datetime) -> list[Notice]:
    return await outbox.insert_pokes(conn, [(one.key, one.execution_id, one.workflow_id) for one in meant], now)


async def _held(conn: Connection[Record], scope: Scope, execution_id: str) -> tuple[Shown, SubjectKey]:
    """The execution, as it stands once its subject's row is held."""
    try:
        named = UUID(execution_id)
    except ValueError:
        raise no_execution(execution_id) from None
    held = await hold_subjects(conn, scope.project_no, [named])
    shown = (await executions_read.by_id(conn, scope.project_no, [named])).get(named)
    if shown is None or not held:
        raise no_execution(execution_id)
    return shown, next(iter(held))


def _all_of(wanted: Filter, keys: Mapping[str, SubjectKey]) -> list[SubjectKey]:
    """The subjects that the filter names. Raises InvalidArgument SUBJECT_NOT_FOUND with each that does not exist: who
    mistypes one must not believe that their executions were ended.
    """
    unknown = [
        Fault(path=f"filter.subjectIds[{place}]", reason="SUBJECT_NOT_FOUND", message="there is no such subject")
        for place, subject_id in enumerate(wanted.subject_ids)
        if subject_id not in keys
    ]
    if unknown:
        raise InvalidArgument(unknown)
    return sorted(set(keys.values()))


def _counted(meant: Sequence[Meant]) -> Count:
    steps = Counter(one.step_id for one in meant)
    return Count(total=len(meant), by_step=dict(sorted(steps.items(), key=lambda step: (-step[1], step[0]))))
