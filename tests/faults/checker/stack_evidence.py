"""The evidence of a stack of processes: of its database, its Temporal, its logs, and what its API tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
from temporalio.client import Client

from orchestrator.application.transactions import Transactions
from orchestrator.devstack.stack import POSTGRES, TEMPORAL, Stack
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.contract import EXECUTION_WORKFLOW
from tests.faults.checker import statements
from tests.faults.checker.evidence import Evidence, Json
from tests.faults.checker.gathering import gather
from tests.faults.checker.op_log import Op
from tests.provider.client import Receipt

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@asynccontextmanager
async def owner_of(stack: Stack) -> AsyncIterator[Connection[Record]]:
    """A connection that sees everything, and reads jsonb as values."""
    conn = await asyncpg.connect(stack.addresses.database_url)
    try:
        await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        yield conn
    finally:
        await conn.close()


async def at_rest(stack: Stack, *, within: float) -> None:
    """Wait until nothing is left to do but to wait, the audit log is sealed, and the workflows of what has ended have
    heard of it; fails, saying what is left, if that takes longer than so many seconds.
    """
    left: dict[str, int] = {}
    try:
        async with asyncio.timeout(within), owner_of(stack) as conn:
            temporal = await _temporal_of(stack)
            while left := await _left(conn) or await _unheard(conn, temporal):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not at rest within {within} s: {left}") from None


async def _left(conn: Connection[Record]) -> dict[str, int]:
    # What was set aside does not go by itself: that is for the checker.
    questions = {
        table: f"SELECT count(*) FROM {table} WHERE {left}"
        for table, left in statements.WAITING.items()
        if not table.endswith("_dead")
    }
    questions["audit_unsealed"] = "SELECT count(*) FROM audit_unsealed"
    questions["sends under way"] = "SELECT count(*) FROM executions WHERE outcome IS NULL AND effect ->> 'kind' = 'run'"
    counts = {what: await conn.fetchval(question) for what, question in questions.items()}
    return {what: count for what, count in counts.items() if count}


_ENDED = "SELECT workflow_id FROM executions WHERE outcome IS NOT NULL AND workflow_id = ANY ($1::text[])"


async def _unheard(conn: Connection[Record], temporal: Client) -> dict[str, int]:
    """Who lost the answer that an execution has ended hears it at the next try."""
    query = f"WorkflowType = '{EXECUTION_WORKFLOW}' AND ExecutionStatus = 'Running'"
    running = [found.id async for found in temporal.list_workflows(query, page_size=1000)]
    ended = await conn.fetch(_ENDED, running)
    return {"open workflows of what has ended": len(ended)} if ended else {}


async def _temporal_of(stack: Stack) -> Client:
    return await connect(Target(address=stack.addresses.temporal, namespace=stack.addresses.temporal_namespace))


async def evidence_of(
    stack: Stack, *, ops: Iterable[Op] = (), receipts: Callable[[], Sequence[Receipt]] = tuple, **known: Any
) -> Evidence:
    """All there is to be known of the stack, which need not stand still: what clients were told is of before the rows,
    and `receipts` are asked for behind them. `known` are other fields of the Evidence that the caller brings.
    """
    temporal = await _temporal_of(stack)
    pool = await open_pool(stack.addresses.database_url, role=WORKER_ROLE, size=2, application_name="checker")
    try:
        told = list(ops)
        async with owner_of(stack) as conn:
            evidence = await gather(
                conn,
                temporal,
                transactions=Transactions(pool),
                logs=dict(logs_of(stack)),
                ops=told,
                funnels=await _funnels(stack),
                **known,
            )
        return replace(evidence, receipts=receipts())
    finally:
        await pool.close()


def logs_of(stack: Stack) -> Iterable[tuple[str, Path]]:
    """Of our processes. What was put aside since it had grown too long counts, too."""
    for part in stack.parts:
        if part.name not in (POSTGRES, TEMPORAL):
            path = part.process.log
            yield from ((f"{part.name}{suffix}", path.with_suffix(suffix)) for suffix in (".log.1", ".log"))


async def _funnels(stack: Stack) -> dict[tuple[str, str], Json]:
    """What the API tells of each journey of the project whose owner the stack's key is."""
    headers = {"X-Api-Key": stack.keys.owner}
    async with httpx.AsyncClient(base_url=stack.addresses.http, headers=headers, timeout=30) as http:
        answer = await http.get("/v1/journeys", params={"pageSize": 100})
        answer.raise_for_status()
        funnels = {}
        for journey in answer.json().get("journeys", ()):
            told = await http.get(f"/v1/journeys/{journey['id']}/funnel")
            told.raise_for_status()
            funnels["default", journey["id"]] = told.json()
        return funnels
