"""From an event's acceptance to its workflow's first task, at 20 events a second.

It begins when the caller of IngestEvents has its answer, and ends at the time that Temporal writes down for the start
of the workflow's first task, from which on the workflow's code runs. Beside it: until the first row that the running
workflow leaves, its reserved send. The bare start begins when `start_workflow` is called.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bench import welcome
from bench.event_batches import INGEST
from bench.ground import WORKER, furnish, ground
from bench.pace import at_pace
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import remote
from bench.rows import Row, at_most, beside, percentile
from orchestrator.devstack.stack import SERVER, Stack
from orchestrator.v1 import event_service_pb2 as rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Record

P50_MS, P99_MS = 40, 150

PACE = 20.0

_STEPS = [
    {"id": "hello", "send": {"communicationId": "welcome"}, "next": "end"},
    {"id": "end", "exit": {"reason": "finished"}},
]
_CONTRACT = {"id": "bought", "name": "Bought", "eventName": "purchase"}

_OPEN = "SELECT count(*) FROM executions WHERE project_no = 1 AND outcome IS NULL"
_ENDED = "SELECT count(*) FROM executions WHERE project_no = 1"

_STARTED = """
SELECT s.subject_id, e.workflow_id, d.reserved_at
  FROM executions AS e
  JOIN subjects AS s USING (project_no, bucket, subject_no)
  JOIN sends AS d USING (project_no, bucket, subject_no, execution_id)
 WHERE e.project_no = 1
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    ours: list[float] = []
    rows: list[float] = []
    bare: list[float] = []
    count = int(plan.start_seconds * PACE / plan.rounds)
    async with ground() as stack:
        await furnish(
            stack,
            *welcome.communications(),
            ("/v1/triggerContracts", _CONTRACT),
            *welcome.journey("bought", _STEPS, triggerContractId="bought"),
        )
        conn = await asyncpg.connect(stack.addresses.database_url)
        client = await Client.connect(stack.addresses.temporal)
        async with remote("bench.bare_start", stack.addresses.temporal) as process:
            await _accept(stack, conn, "warm-up", 20)
            await process.ask("start", ["warm-up", 20, PACE])
            for number in range(plan.rounds):
                asked_at = await process.ask("start", [f"bare-{number}", count, PACE])
                bare += [1000 * (await _first_task(client, i) - at) for i, at in asked_at.items()]
                accepted_at = await _accept(stack, conn, f"ours-{number}", count)
                for subject_id, workflow_id, reserved_at in await conn.fetch(_STARTED):
                    if subject_id in accepted_at:
                        accepted = accepted_at[subject_id]
                        ours.append(1000 * (await _first_task(client, workflow_id) - accepted))
                        rows.append(1000 * (reserved_at.timestamp() - accepted))
            server, worker = stack.part(SERVER).pid, stack.part(WORKER).pid
            of = f"events that start a journey of one message, {PACE:g} a second"
            async with profiled(stack, of, server=server, worker=worker) as profiles:
                await _accept(stack, conn, "profiled", count)
        await conn.close()
    if len(ours) != count * plan.rounds:
        raise AssertionError(f"{count * plan.rounds} events started {len(ours)} workflows")
    return [
        at_most(P50_MS, "event accepted → workflow started, p50", percentile(ours, 50), "ms"),
        at_most(P99_MS, "event accepted → workflow started, p99", percentile(ours, 99), "ms"),
        beside("event accepted → first row of the workflow, p50", percentile(rows, 50), "ms"),
        beside("event accepted → first row of the workflow, p99", percentile(rows, 99), "ms"),
        beside("bare eager start, p50", percentile(bare, 50), "ms"),
        beside("bare eager start, p99", percentile(bare, 99), "ms"),
        beside(
            "event accepted → workflow started, p50, against a bare start",
            percentile(ours, 50) / percentile(bare, 50),
            "×",
            against="a bare eager start",
            better="less",
            swing=1.9,
        ),
        *profiles,
    ]


async def _accept(stack: Stack, conn: Connection[Record], series: str, count: int) -> Mapping[str, float]:
    """When the event of each subject was answered for; returns when all their journeys have ended."""
    before = await conn.fetchval(_ENDED)
    accepted_at: dict[str, float] = {}
    metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
    async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            INGEST,
            request_serializer=rpc.IngestEventsRequest.SerializeToString,
            response_deserializer=None,
        )
        await channel.channel_ready()

        async def one(number: int) -> None:
            subject_id = f"{series}-{number}"
            request = rpc.IngestEventsRequest()
            request.events.add(event_id=subject_id, name="purchase", subject_id=subject_id)
            await call(request, metadata=metadata, timeout=10)
            accepted_at[subject_id] = time.time()

        await at_pace(one, count, PACE)
    async with asyncio.timeout(60):
        while await conn.fetchval(_ENDED) < before + count or await conn.fetchval(_OPEN):
            await asyncio.sleep(0.1)
    return accepted_at


async def _first_task(client: Client, workflow_id: str) -> float:
    """When it was started, in epoch seconds."""
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
            return event.event_time.ToDatetime(UTC).timestamp()
    raise AssertionError(f"{workflow_id} has not begun")
