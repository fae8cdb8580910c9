"""From an event's acceptance to the execution that waited for it having gone on, at 20 events a second.

It begins when the caller of IngestEvents has its answer, and ends at the instant of the decision that takes the
execution off its step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc

from bench import welcome
from bench.callers import Enroller
from bench.event_batches import INGEST
from bench.ground import WORKER, calm, furnish, ground
from bench.pace import at_pace
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.rows import Row, at_most, beside, percentile
from orchestrator.devstack.stack import SERVER, Stack
from orchestrator.v1 import event_service_pb2 as rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Record

P99_MS = 200

PACE = 20.0

_PAID = {"event": {"eventName": "paid"}, "timeout": "30d", "otherwise": "end"}
STEPS: list[dict[str, Any]] = [
    {"id": "await", "waitFor": _PAID, "next": "end"},
    {"id": "end", "exit": {"reason": "finished"}},
]

_UNTOLD = "SELECT count(*) FROM outbox"
_UNREAD = "SELECT count(*) FROM inbox"
_OPEN = "SELECT count(*) FROM executions WHERE project_no = 1 AND outcome IS NULL"

_WOKEN = """
SELECT s.subject_id, v.reason, v.left_at
  FROM visits AS v
  JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE v.project_no = 1 AND v.step_id = 'await'
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    count = int(plan.start_seconds * PACE)
    async with ground() as stack:
        await furnish(stack, *welcome.journey("paying", STEPS))
        conn = await asyncpg.connect(stack.addresses.database_url)
        async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
            enroller = Enroller(stack, channel)
            warm = [f"warm-{number}" for number in range(20)]
            asked = [f"payer-{number}" for number in range(count)]
            more = [f"more-{number}" for number in range(count // 4)]
            for start in range(0, count, 500):
                await enroller.enroll("paying", asked[start : start + 500])
            await enroller.enroll("paying", warm)
            await _until_none(conn, _UNTOLD, _UNREAD)
            await pay(stack, channel, warm)
            await _until_none(conn, _UNTOLD, _UNREAD)
            # Those who were let in last have to have come to their step.
            await calm(stack)
            accepted_at = await pay(stack, channel, asked)
            await _until_none(conn, _OPEN)
            await enroller.enroll("paying", more)
            await _until_none(conn, _UNTOLD, _UNREAD)
            await calm(stack)
            server, worker = stack.part(SERVER).pid, stack.part(WORKER).pid
            of = f"events for executions that wait for them, {PACE:g} a second"
            async with profiled(stack, of, server=server, worker=worker) as profiles:
                await pay(stack, channel, more)
                await _until_none(conn, _OPEN)
        rows = [row for row in await conn.fetch(_WOKEN) if row["subject_id"] in accepted_at]
        await conn.close()
    if len(rows) != count or {row["reason"] for row in rows} != {"came"}:
        raise AssertionError(f"{count} events woke {len(rows)} executions")
    woken = [1000 * (row["left_at"].timestamp() - accepted_at[row["subject_id"]]) for row in rows]
    return [
        at_most(P99_MS, "event accepted → execution has gone on, p99", percentile(woken, 99), "ms"),
        beside("event accepted → execution has gone on, p50", percentile(woken, 50), "ms"),
        *profiles,
    ]


async def pay(stack: Stack, channel: grpc.aio.Channel, subject_ids: list[str]) -> Mapping[str, float]:
    """When the event of each subject was answered for: one that those wait for who travel on STEPS."""
    accepted_at: dict[str, float] = {}
    metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
    call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
        INGEST,
        request_serializer=rpc.IngestEventsRequest.SerializeToString,
        response_deserializer=None,
    )

    async def one(number: int) -> None:
        subject_id = subject_ids[number]
        request = rpc.IngestEventsRequest()
        request.events.add(event_id=f"paid-{subject_id}", name="paid", subject_id=subject_id)
        await call(request, metadata=metadata, timeout=10)
        accepted_at[subject_id] = time.time()

    await at_pace(one, len(subject_ids), PACE)
    return accepted_at


async def _until_none(conn: Connection[Record], *counts: str) -> None:
    async with asyncio.timeout(120):
        for count in counts:
            while await conn.fetchval(count):
                await asyncio.sleep(0.1)
