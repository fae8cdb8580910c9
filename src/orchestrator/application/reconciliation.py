"""Executions that were ended in Temporal without us: terminated or canceled by an operator, or failed.

Their rows are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from temporalio.client import WorkflowExecutionStatus

from orchestrator.application.transactions import Transactions
from orchestrator.domain.execution import Outcome
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import clock, executions, subjects
from orchestrator.storage.executions import Ending
from orchestrator.temporal.contract import Effect
from orchestrator.temporal.executions import Ended, Executions

#: How far back a look goes behind the one before it: Temporal's list lags behind a little.
LAG = timedelta(hours=1)

#: Executions looked up at a time.
AT_ONCE = 500

_FAILED = frozenset({WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.TIMED_OUT})


class Reconciliation:
    """Closes the rows of executions that Temporal has ended."""

    def __init__(self, transactions: Transactions, temporal: Executions, *, lag: timedelta = LAG) -> None:
        self._transactions = transactions
        self._temporal = temporal
        self._lag = lag
        # When the last look that came to its end began. None: nobody knows what happened before we started.
        self._looked_at: datetime | None = None

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
        closed = 0
        for ended in some:
            if UUID(ended.execution_id) in still_open and not await self._temporal.runs_on(ended):
                closed += await self._close(ended)
        return closed

    async def _close(self, ended: Ended) -> bool:
        key = _key(ended)
        outcome = Outcome.FAILED if ended.status in _FAILED else Outcome.CANCELED
        async with self._transactions.write(None) as conn:
            survivor = await subjects.lock_survivor(conn, key)
            return await executions.close(
                conn,
                survivor or key,
                UUID(ended.execution_id),
                effect=asdict(Effect(seq=0, kind="end", outcome=outcome.value)),
                ending=Ending(
                    outcome=outcome.value, reason=f"temporal_{ended.status.name.lower()}", at=await clock.now(conn)
                ),
            )


def _key(ended: Ended) -> SubjectKey:
    project_no, bucket, subject_no = ended.subject
    return SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)
