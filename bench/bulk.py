"""Whole crowds enrolled by a job, against bare `start_workflow` calls of the same workflow; and what events that start
journeys meanwhile feel of it.

A job's time ends when Temporal has been told of everybody. An event's begins when the caller has its answer, and ends
with the first row that the running workflow leaves, its reserved send.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import httpx

from bench import welcome
from bench.event_batches import INGEST
from bench.ground import WORKER, CoreTime, calm, furnish, ground
from bench.pace import at_pace
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import remote
from bench.rows import Row, at_least, at_most, beside, percentile, ratio, ratios, spread
from bench.until import until
from orchestrator.devstack.stack import Stack
from orchestrator.domain.subject import bucket_of
from orchestrator.v1 import event_service_pb2 as rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Record

TARGET = 0.8
MOST_SLOWER = 3.0

#: Executions wait for so long: none ends while anything is measured.
WAIT = 7200

#: Events a second that start a journey of their own.
PACE = 10.0

_ADD_SUBJECTS = """
INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)
SELECT 1, w.bucket, w.subject_id, now(), now() FROM unnest($1::smallint[], $2::text[]) AS w (bucket, subject_id)
"""

WARM_UP = 50

_UNTOLD = "SELECT count(*) FROM outbox"
_TOLD = "SELECT NOT EXISTS (SELECT FROM outbox)"

_ENROLLED = "SELECT count(*) FROM enrollments WHERE journey_id = 'bulk' AND entry_key = 'job:' || $1"

_RESERVED = """
SELECT s.subject_id, d.reserved_at
  FROM sends AS d JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE d.project_no = 1 AND s.subject_id LIKE $1 || '-%'
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    count = plan.crowd
    async with ground() as stack, AsyncExitStack() as opened:
        hello = [
            {"id": "hello", "send": {"communicationId": "welcome"}, "next": "end"},
            {"id": "end", "exit": {"reason": "finished"}},
        ]
        await furnish(
            stack,
            *welcome.communications(),
            ("/v1/triggerContracts", {"id": "bought", "name": "Bought", "eventName": "purchase"}),
            *welcome.journey("bought", hello, triggerContractId="bought"),
            # Every job lets everybody in once more.
            *welcome.journey("bulk", welcome.waiting(WAIT), reentry={"policy": "entry_key"}),
        )
        conn = await asyncpg.connect(stack.addresses.database_url)
        opened.push_async_callback(conn.close)
        people = [f"crowd-{number}" for number in range(count)]
        await conn.execute(_ADD_SUBJECTS, [bucket_of(one) for one in people], people)
        bare_process = await opened.enter_async_context(remote("bench.bulk_bare", stack.addresses.temporal))
        api = await opened.enter_async_context(_api(stack))
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(stack.addresses.grpc))
        await bare_process.ask("start", ["warm-up", WARM_UP, WAIT])
        await _entries(stack, channel, conn, "warm-up", 20)
        seconds = plan.start_seconds / 2
        quiet = await _entries(stack, channel, conn, "quiet", int(PACE * seconds))
        ours: list[float] = []
        bare: list[float] = []
        for number in range(plan.rounds):
            for side in ("ours", "bare") if number % 2 else ("bare", "ours"):
                if side == "bare":
                    bare.append(count / await bare_process.ask("start", [f"bare-{number}", count, WAIT]))
                else:
                    ours.append(count / await _enroll_all(api, conn, f"bulk-{number}", count))
        # What was started last has to have begun.
        await calm(stack)
        rate = max(1, round(median(bare) / 2))
        job = await _begin(api, "paced", rate)
        used, began = CoreTime(stack, worker=stack.part(WORKER).pid), time.monotonic()
        busy = await _entries(stack, channel, conn, "busy", int(PACE * min(seconds, 0.9 * count / rate)))
        enrolled, took = await conn.fetchval(_ENROLLED, job), time.monotonic() - began
        cores = ", ".join(f"{name} {seconds / took:.2f}" for name, seconds in used.used().items())
        (await api.post(f"/v1/enrollmentJobs/{job}:cancel", json={})).raise_for_status()
        await until(lambda: conn.fetchval(_TOLD), within=120)
        await calm(stack)
        async with profiled(stack, f"a job lets in {count:,}", worker=stack.part(WORKER).pid) as profiles:
            await _enroll_all(api, conn, "profiled", count)
    slower = percentile(busy, 99) / percentile(quiet, 99)
    return [
        at_least(
            TARGET,
            "a crowd enrolled by a job, against bare starts",
            ratio(ours, bare),
            "×",
            against="bare starts of the same workflow",
            rounds=ratios(ours, bare),
        ),
        beside("a crowd enrolled by a job", median(ours), "/s", f"rounds {spread(ours)}"),
        beside("bare starts of the same workflow", median(bare), "/s", f"rounds {spread(bare)}"),
        at_most(
            MOST_SLOWER,
            "event → first row beside a job at half of that, p99 against quiet",
            slower,
            "×",
            against="the same without a job",
            swing=1.9,
        ),
        beside("event → first row, quiet, p99", percentile(quiet, 99), "ms", f"p50 {percentile(quiet, 50):.0f}"),
        beside("event → first row beside the job, p99", percentile(busy, 99), "ms", f"p50 {percentile(busy, 50):.0f}"),
        beside("the job beside them", enrolled / took, "/s", f"asked for {rate}/s; cores: {cores}"),
        *profiles,
    ]


def _api(stack: Stack) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {stack.keys.owner}"}
    return httpx.AsyncClient(base_url=stack.addresses.http, headers=headers, timeout=30)


async def _begin(api: httpx.AsyncClient, job_id: str, rate: int | None = None) -> str:
    job = {"id": job_id, "journeyId": "bulk", "everyone": True, **({"ratePerSecond": rate} if rate else {})}
    answer = await api.post("/v1/enrollmentJobs", json=job)
    answer.raise_for_status()
    return job_id


async def _enroll_all(api: httpx.AsyncClient, conn: Connection[Record], job_id: str, count: int) -> float:
    """Seconds until everybody is in, and told of."""
    began = time.perf_counter()
    await _begin(api, job_id)
    async with asyncio.timeout(300):
        while await conn.fetchval(_ENROLLED, job_id) < count or await conn.fetchval(_UNTOLD):
            await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def _entries(
    stack: Stack, channel: grpc.aio.Channel, conn: Connection[Record], series: str, count: int
) -> list[float]:
    """Milliseconds of so many events, at PACE."""
    accepted_at: dict[str, float] = {}
    metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
    call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
        INGEST,
        request_serializer=rpc.IngestEventsRequest.SerializeToString,
        response_deserializer=None,
    )

    async def one(number: int) -> None:
        subject_id = f"{series}-{number}"
        request = rpc.IngestEventsRequest()
        request.events.add(event_id=subject_id, name="purchase", subject_id=subject_id)
        await call(request, metadata=metadata, timeout=10)
        accepted_at[subject_id] = time.time()

    await at_pace(one, count, PACE)
    async with asyncio.timeout(60):
        while len(reserved := await conn.fetch(_RESERVED, series)) < count:
            await asyncio.sleep(0.1)
    return [1000 * (row["reserved_at"].timestamp() - accepted_at[row["subject_id"]]) for row in reserved]
