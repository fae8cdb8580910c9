"""Executions that were ended in Temporal without us: terminated or canceled by an operator, or failed; or by
themselves, before a backup of the database was restored that does not know of it.

Their rows are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from temporalio.client import WorkflowExecutionStatus

from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import EXECUTION_CLOSED, RUNTIME
from orchestrator.domain.execution import Outcome
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import audit, clock, executions, subjects, turns
from orchestrator.storage.executions import Ending
from orchestrator.temporal.contract import Effect
from orchestrator.temporal.executions import Ended, Executions

#: How far back a look goes behind the one before it: Temporal's list lags behind a little.
LAG = timedelta(hours=1)

#: Executions looked up at a time, and closed at a time.
AT_ONCE, CLOSED_AT_ONCE = 500, 8

#: A look that takes longer is begun by others beside: what they find twice is closed once.
LEASE = timedelta(seconds=10)

#: Between two looks of all processes: each asks Temporal for a list, of which it gives so many in a second.
PAUSE = timedelta(seconds=5)

_FAILED = frozenset({WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.TIMED_OUT})


class Reconciliation:
    """Closes the rows of executions that Temporal has ended."""

    def __init__(self, transactions: Transactions, temporal: Executions, *, lag: timedelta = LAG) -> None:
        self._transactions = transactions
        self._temporal = temporal
        self._lag = lag
        # When the last look that came to its end began. None: nobody knows what happened before we started.
        self._looked_at: datetime | None = None

    async def take_turn(self) -> int:
        """Look once, unless somebody else is at it or just was; returns how many rows were closed. Raises as `run`."""
        async with self._transactions.write(None) as conn:
            mine = await turns.take(conn, turns.RECONCILIATION, LEASE)
        if not mine:
            return 0
        try:
            return await self.run()
        finally:
            async with self._transactions.write(None) as conn:
                await turns.end(conn, turns.RECONCILIATION, PAUSE)

    async def run(self) -> int:
        """Look once; returns how many rows were closed. Raises RPCError when Temporal is away.

        The first look goes as far back as Temporal remembers; those after it, to the one before.
        """
        async with self._transactions.read(None) as conn:
            began = await clock.now(conn)
        since = self._looked_at - self._lag if self._looked_at is not None else None
        closed = 0
        some: list[Ended] = []
        async for ended in self._temporal.ended_elsewhere(since):
            some.append(ended)
            if len(some) == AT_ONCE:
                closed += await self._reconcile(some)
                some = []
        closed += await self._reconcile(some)
        self._looked_at = began
        return closed

    async def _reconcile(self, some: Sequence[Ended]) -> int:
        """Of these, close those that are open here and do not run on."""
        if not some:
            return 0
        async with self._transactions.read(None) as conn:
            still_open = await executions.still_open(conn, [(_key(ended), UUID(ended.execution_id)) for ended in some])
        places = asyncio.Semaphore(CLOSED_AT_ONCE)

        async def close(ended: Ended) -> bool:
            async with places:
                return await self.close(ended)

        return sum(await asyncio.gather(*(close(ended) for ended in some if UUID(ended.execution_id) in still_open)))

    async def close(self, ended: Ended, *, actor: str = RUNTIME) -> bool:
        """Close the row of one that is open here, unless a later run of it is under way; whether it was done."""
        if await self._temporal.runs_on(ended):
            return False
        key = _key(ended)
        outcome, reason = _outcome(ended), f"temporal_{ended.status.name.lower()}"
        async with self._transactions.write(None) as conn:
            survivor = await subjects.lock_survivor(conn, key)
            now = await clock.now(conn)
            closed = await executions.close(
                conn,
                survivor or key,
                UUID(ended.execution_id),
                effect=asdict(Effect(seq=0, kind="end", outcome=outcome.value)),
                ending=Ending(outcome=outcome.value, reason=reason, at=now),
            )
            if closed is not None:
                await audit.append(
                    conn,
                    project_no=key.project_no,
                    at=now,
                    actor=actor,
                    action=EXECUTION_CLOSED,
                    resource_id=closed.journey_id,
                    metadata={"executionId": ended.execution_id, "stepId": closed.step_id, "reason": reason},
                )
        return closed is not None


def _outcome(ended: Ended) -> Outcome:
    if ended.outcome is not None:
        return Outcome(ended.outcome)
    return Outcome.FAILED if ended.status in _FAILED else Outcome.CANCELED


def _key(ended: Ended) -> SubjectKey:
    project_no, bucket, subject_no = ended.subject
    return SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)
