"""Gathering the evidence of a run that has come to rest: one instant of Postgres, every run of Temporal, all logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client

from orchestrator.application.doctor import Doctor
from orchestrator.application.transactions import Transactions
from orchestrator.storage import audit_seals
from orchestrator.temporal.contract import EXECUTION_WORKFLOW
from orchestrator.temporal.memos import memo_of
from tests.faults.checker import statements
from tests.faults.checker.evidence import (
    Admission,
    Counted,
    Diagnosis,
    Event,
    Evidence,
    Execution,
    Ledger,
    LogLine,
    Sealed,
    Send,
    Visit,
    Workflow,
)

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Histories that are read, at most: of more runs, so many at even distances, and of all that are open the task.
HISTORIES = 500
_AT_ONCE = 16
#: A workflow was about to end, and a signal came: Temporal has it look at that first. Nothing has failed.
_SOMETHING_CAME = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND


async def gather(
    conn: Connection[Record],
    temporal: Client | None,
    *,
    transactions: Transactions | None = None,
    logs: Mapping[str, Path] | None = None,
    histories: int = HISTORIES,
    **known: Any,
) -> Evidence:
    """Read all that is to be read; `known` are fields of the Evidence that the caller brings.

    `conn` is the owner's, with jsonb as Python values. `transactions` are those of the workers' role: with them, and
    with Temporal, the doctor is asked. `logs`: files by what wrote them.
    """
    return Evidence(
        ledger=await read_ledger(conn),
        workflows=await read_workflows(temporal, histories) if temporal is not None else (),
        logs=[line for part, path in (logs or {}).items() for line in read_log(part, path)],
        diagnoses=await ask_doctor(transactions, temporal) if transactions and temporal else (),
        **known,
    )


async def read_ledger(conn: Connection[Record]) -> Ledger:
    """What Postgres has, of one instant."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):

        async def rows(statement: str) -> list[dict[str, Any]]:
            return [dict(row) for row in await conn.fetch(statement)]

        return Ledger(
            now=await conn.fetchval("SELECT clock_timestamp()"),
            admissions=[Admission(**row) for row in await rows(statements.ADMISSIONS)],
            executions=[Execution(**row) for row in await rows(statements.EXECUTIONS)],
            visits=[Visit(**row) for row in await rows(statements.VISITS)],
            sends=[Send(**row) for row in await rows(statements.SENDS)],
            events=[Event(**row) for row in await rows(statements.EVENTS)],
            counted=[Counted(**row) for row in await rows(statements.COUNTED)],
            versions={
                (row["project_id"], row["journey_id"], row["version"]): row["definition"]
                for row in await rows(statements.VERSIONS)
            },
            attributes={row["subject_no"]: row["attributes"] for row in await rows(statements.ATTRIBUTES)},
            chosen={
                (row["execution_id"], row["seq"], row["step_id"]): row["arm_id"]
                for row in await rows(statements.CHOSEN)
            },
            caps={row["project_id"]: row["caps"] for row in await rows(statements.CAPS)},
            seals=await _seals(conn),
            unsealed=await conn.fetchval("SELECT count(*) FROM audit_unsealed"),
            audited={(row["project"], row["what"]): row["entries"] for row in await rows(statements.AUDITED)},
            waiting={
                table: await conn.fetchval(f"SELECT count(*) FROM {table} WHERE {left}")
                for table, left in statements.WAITING.items()
            },
            strays={
                f"{row['table']}.{row['named']}": await conn.fetchval(statements.strays(row["table"], row["named"]))
                for row in await rows(statements.NAMING)
            },
        )


async def _seals(conn: Connection[Record]) -> list[Sealed]:
    found: list[Sealed] = []
    for project_no in (await audit_seals.logs(conn)).values():
        after = 0
        while page := await audit_seals.sealed(conn, project_no, after, 10_000):
            found += [
                Sealed(project_no=project_no, seq=one.seq, audit_no=one.audit_no, hash=one.hash, row=one.row)
                for one in page
            ]
            after = page[-1].seq
    return found


async def read_workflows(client: Client, histories: int = HISTORIES) -> list[Workflow]:
    """Every run of an execution that Temporal lists, and why tasks of it have failed, of as many as are to be read."""
    listed = [
        (found, await memo_of(found))
        async for found in client.list_workflows(f"WorkflowType = '{EXECUTION_WORKFLOW}'", page_size=1000)
    ]
    step = max(1, len(listed) // histories) if histories else 0
    chosen = {found.run_id for found, _ in listed[::step]} if step else set()
    turn = asyncio.Semaphore(_AT_ONCE)

    async def told(found: Any, execution_id: str | None) -> Workflow:
        status = found.status.name if found.status is not None else ""
        async with turn:
            failures = await _failures(client, found.id, found.run_id) if found.run_id in chosen else None
            attempt = await _task_attempt(client, found.id, found.run_id) if status == "RUNNING" else 0
        return Workflow(
            workflow_id=found.id,
            run_id=found.run_id,
            first_run_id=found.raw_info.first_run_id,
            execution_id=execution_id,
            status=status,
            task_attempt=attempt,
            failures=failures,
        )

    return await asyncio.gather(
        *(told(found, str(memo.execution_id) if memo.execution_id else None) for found, memo in listed)
    )


async def _failures(client: Client, workflow_id: str, run_id: str) -> tuple[str, ...]:
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    )
    failures: list[str] = []
    while True:
        answer = await client.workflow_service.get_workflow_execution_history(request)
        for event in answer.history.events:
            told = event.workflow_task_failed_event_attributes
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED and told.cause != _SOMETHING_CAME:
                failures.append(f"{WorkflowTaskFailedCause.Name(told.cause)} {told.failure.message}")
        if not answer.next_page_token:
            return tuple(failures)
        request.next_page_token = answer.next_page_token


async def _task_attempt(client: Client, workflow_id: str, run_id: str) -> int:
    described = await client.get_workflow_handle(workflow_id, run_id=run_id).describe()
    return int(described.raw_description.pending_workflow_task.attempt)


def read_log(part: str, path: Path) -> Iterable[LogLine]:
    """The lines of a log; what is no JSON was written by somebody else."""
    if not path.exists():
        return
    for line in path.read_text(errors="replace").splitlines():
        try:
            told = json.loads(line)
            yield LogLine(
                part=part, level=told["level"], message=told["message"], error=str(told.get("error", "")),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            yield LogLine(part=part, level="", message=line)


async def ask_doctor(transactions: Transactions, temporal: Client) -> Sequence[Diagnosis]:
    """Every check of the doctor, with nothing taken for being on its way."""
    doctor = Doctor(transactions, temporal, on_its_way=timedelta(0))
    return [
        Diagnosis(check=finding.name, total=finding.count.total, examples=finding.count.examples)
        async for finding in doctor.examine()
    ]
