"""Executions that were ended in Temporal without us: terminated or canceled by an operator, or failed.

Their rows are closed.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

from temporalio.client import WorkflowExecutionStatus

from orchestrator.application.transactions import Transactions
from orchestrator.domain.execution import Outcome
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import clock, executions, subjects
from orchestrator.storage.executions import Ending
from orchestrator.temporal.contract import Effect
from orchestrator.temporal.executions import Ended, Executions

#: How far back a look goes: Temporal's list lags behind a little, and looks are missed while Temporal is away.
LOOK_BACK = timedelta(hours=1)

_FAILED = frozenset({WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.TIMED_OUT})


class Reconciliation:
    """Closes the rows of executions that Temporal has ended."""

    def __init__(self, transactions: Transactions, temporal: Executions) -> None:
        self._transactions = transactions
        self._temporal = temporal
        self._seen: set[str] = set()

    async def run(self) -> int:
        """Look once; returns how many rows were closed. Raises RPCError when Temporal is away."""
        async with self._transactions.read(None) as conn:
            since = await clock.now(conn) - LOOK_BACK
        closed, still_listed = 0, set()
        async for ended in self._temporal.ended_elsewhere(since):
            still_listed.add(ended.execution_id)
            if ended.execution_id not in self._seen:
                closed += await self._close(ended)
        self._seen = still_listed
        return closed

    async def _close(self, ended: Ended) -> bool:
        project_no, bucket, subject_no = ended.subject
        key = SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)
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
