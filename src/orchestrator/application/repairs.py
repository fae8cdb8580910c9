"""Putting right what Postgres and Temporal have under way and the other has not, both ways.

Nothing is decided here: what runs is started where it stands, what has ended is closed as it ended, and what runs for
nothing is told to look. So nothing that may have been sent is sent again: whoever goes on asks the ledgers first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import assert_never
from uuid import UUID

from asyncpg import Connection, Record
from temporalio.client import Client, WorkflowExecutionStatus

from orchestrator.application.comparison import Comparison
from orchestrator.application.reconciliation import Reconciliation
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import DOCTOR, EXECUTION_RESTARTED, WORKFLOW_POKED
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import audit, clock, doctor, executions, outbox, subjects
from orchestrator.storage.doctor import Open
from orchestrator.temporal.executions import Ended, Executions
from orchestrator.temporal.open_workflows import Described, OpenWorkflow

#: The log of what concerns no project.
_INSTANCE = 0


class Repair(Enum):
    """What is done about a difference."""

    #: It runs here, and Temporal has no workflow of it: a worker starts one within seconds.
    START = "start"
    #: It runs here, and its workflow has ended.
    CLOSE = "close"
    #: Its workflow runs, and it does not: told to look, the workflow ends.
    POKE = "poke"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that runs in one place and not in the other. `execution` is (project_no, bucket, subject_no, id); None:
    the workflow does not say. `status` is that of a workflow that has ended.
    """

    repair: Repair
    workflow_id: str
    execution: tuple[int, int, int, UUID] | None
    status: WorkflowExecutionStatus | None = None

    @property
    def which(self) -> str:
        """An execution by its id; a workflow that does not say whose it is by its own."""
        return str(self.execution[3]) if self.execution is not None else self.workflow_id


class Repairs:
    """`transactions` are those of the workers' role. Everything raises RPCError while Temporal is away, or
    RuntimeError, of a client that connects at its first call.
    """

    def __init__(self, transactions: Transactions, temporal: Client, *, on_its_way: timedelta) -> None:
        self._transactions = transactions
        self._executions = Executions(temporal, eager=False, searchable=False)
        self._comparison = Comparison(transactions, temporal, on_its_way)
        self._reconciliation = Reconciliation(transactions, self._executions)

    async def plan(self) -> list[Difference]:
        """What there is to put right, or the first thousand of each kind. Changes nothing."""
        return await self._differences(frozenset())

    async def carry_out(self) -> AsyncIterator[tuple[Difference, bool]]:
        """Put it right, to the end; each difference as it is done with, and whether it was still there. A workflow is
        told to look once: what comes of it, workers see to.
        """
        seen: set[str] = set()
        while found := [one for one in await self._differences(seen) if one.workflow_id not in seen]:
            for difference in found:
                seen.add(difference.workflow_id)
                yield difference, await self._mend(difference)

    async def _differences(self, besides: set[str] | frozenset[str]) -> list[Difference]:
        async with self._transactions.read(None) as conn:
            now = await clock.now(conn)
        found = await self._comparison.differences(now, besides=besides)
        return [
            *(_of_execution(Repair.START, execution) for execution in found.not_started),
            *(_of_execution(Repair.CLOSE, execution, told) for execution, told in found.over),
            *(_of_workflow(workflow) for workflow in found.strangers),
        ]

    async def _mend(self, difference: Difference) -> bool:
        match difference.repair:
            case Repair.START:
                return await self._start(difference)
            case Repair.CLOSE:
                return await self._close(difference)
            case Repair.POKE:
                return await self._poke(difference)
            case _:
                assert_never(difference.repair)

    async def _start(self, difference: Difference) -> bool:
        """Note that Temporal is to be told; workers tell it, as of every start."""
        key, execution_id = _key(difference)
        async with self._transactions.write(None) as conn:
            survivor = await subjects.lock_survivor(conn, key)
            standing = await executions.find(conn, survivor, execution_id) if survivor is not None else None
            if survivor is None or standing is None or standing.ended:
                return False
            now = await clock.now(conn)
            await outbox.insert(conn, "start", [(survivor, execution_id, standing.workflow_id)], now)
            await audit.append(
                conn,
                project_no=survivor.project_no,
                at=now,
                actor=DOCTOR,
                action=EXECUTION_RESTARTED,
                resource_id=standing.journey_id,
                metadata={"executionId": str(execution_id), "stepId": standing.position.step_id},
            )
        return True

    async def _close(self, difference: Difference) -> bool:
        key, execution_id = _key(difference)
        assert difference.status is not None, "it has ended"
        outcome = None
        if difference.status is WorkflowExecutionStatus.COMPLETED:
            outcome = await self._executions.outcome(difference.workflow_id)
        ended = Ended(
            workflow_id=difference.workflow_id,
            execution_id=str(execution_id),
            subject=(key.project_no, key.bucket, key.subject_no),
            status=difference.status,
            outcome=outcome,
        )
        return await self._reconciliation.close(ended, actor=DOCTOR)

    async def _poke(self, difference: Difference) -> bool:
        """The intent first, so that there is an entry of whatever was told. One that says nothing of a project of this
        database is in the log of the instance.
        """
        async with self._transactions.write(None) as conn:
            await audit.append(
                conn,
                project_no=await self._project_of(conn, difference),
                at=await clock.now(conn),
                actor=DOCTOR,
                action=WORKFLOW_POKED,
                resource_id=str(difference.execution[3]) if difference.execution is not None else "unknown",
            )
        await self._executions.poke(difference.workflow_id)
        return True

    async def _project_of(self, conn: Connection[Record], difference: Difference) -> int:
        project_no = difference.execution[0] if difference.execution is not None else _INSTANCE
        return project_no if project_no in await doctor.projects(conn) else _INSTANCE


def _of_execution(repair: Repair, execution: Open, told: Described | None = None) -> Difference:
    status = told.status if told is not None else None
    return Difference(repair=repair, workflow_id=execution.workflow_id, execution=execution.key, status=status)


def _of_workflow(workflow: OpenWorkflow) -> Difference:
    return Difference(repair=Repair.POKE, workflow_id=workflow.workflow_id, execution=workflow.execution)


def _key(difference: Difference) -> tuple[SubjectKey, UUID]:
    assert difference.execution is not None, "the database has it"
    project_no, bucket, subject_no, execution_id = difference.execution
    return SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no), execution_id
