"""More calls than a server can serve, a key that floods, and calls whose time is over.

The caller, the server and Postgres share the machine's cores: what is offered beyond the server's capacity costs the
server too, as it would not elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import asyncpg
import grpc
import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.event_batches import BATCH, INGEST, batches
from bench.ground import WORKER, ground
from bench.open_loop import Caller, Outcomes, connections
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import remote
from bench.rows import Row, at_least, at_most, percentile
from orchestrator.devstack.stack import SERVER, Stack
from orchestrator.v1 import preferences_pb2, subject_service_pb2

PREFERENCES = "/orchestrator.v1.SubjectService/UpdatePreferences"
LIST = "/orchestrator.v1.AudienceService/ListAudiences"

#: As many at once as keep a server and its Postgres busy.
CALLERS = 8

#: What is measured beside the flood, and the limit that the flood has ten times as much of, each a second.
QUIET, KEY_LIMIT = 50, 40
CRITICAL = 10


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    return [*await _overload(plan), *await _flood(plan), *await _deadlines(plan)]


async def _overload(plan: Plan) -> Sequence[Row | Profile]:
    async with ground() as stack, connections(stack.addresses.grpc) as channels:
        await stack.part(WORKER).stop()
        caller = Caller(channels, INGEST, stack.keys.owner, batches())
        await caller.closed_loop(CALLERS, 2.0)
        seconds = plan.overload_seconds
        capacity = median([await _served(caller, seconds / 4) for _ in range(3)])
        before = await caller.open_loop(0.7 * capacity, seconds / 2)
        memory = _memory(stack)
        lag = await _lags(stack)
        over = await caller.open_loop(3 * capacity, seconds)
        lags = _since(lag, await _lags(stack))
        grown = _memory(stack) / memory - 1
        back = await _recovery(caller, 0.7 * capacity, before)
        server = stack.part(SERVER).pid
        async with profiled(stack, "3 × capacity is offered", server=server, client=os.getpid()) as profiles:
            await caller.open_loop(3 * capacity, seconds / 2)
    turned_away = over.turned_away
    lost = len(over.all) - len(over.accepted) - len(turned_away)
    return [
        at_least(
            0.8,
            "3 × capacity: calls served, against capacity",
            over.goodput / capacity,
            "×",
            f"IngestEvents of {BATCH} events; capacity {capacity:.0f}/s; {len(over.all)} calls, {len(turned_away)} "
            f"told to come back, {lost} failed otherwise",
            against="as many as it can do",
        ),
        at_most(
            3,
            "3 × capacity: p99 of those served, against 0.7 × capacity",
            over.p(99) / before.p(99),
            "×",
            f"{1000 * over.p(99):.0f} ms against {1000 * before.p(99):.0f} ms; p50 {1000 * over.p(50):.0f} against "
            f"{1000 * before.p(50):.0f}",
            against="0.7 × capacity",
            swing=1.9,
        ),
        at_most(10, "3 × capacity: told to come back, p50", 1000 * median(turned_away or [0.0]), "ms"),
        at_most(5, "3 × capacity: back to the p95 of before × 1.25", back, "s"),
        at_most(20, "3 × capacity: the server's memory grows by", 100 * grown, "%", swing=1.0),
        at_most(50, "3 × capacity: lag of the server's loop, p99 within", 1000 * lags, "ms"),
        *profiles,
    ]


async def _served(caller: Caller, seconds: float) -> float:
    """Calls a second of as many callers as the server lets all in; more are not served sooner."""
    found = await caller.closed_loop(CALLERS, seconds)
    if len(found.accepted) < len(found.all):
        raise RuntimeError(f"{len(found.all) - len(found.accepted)} calls of {CALLERS} callers were not served")
    return found.goodput


async def _flood(plan: Plan) -> list[Row]:
    settings = {"ORCHESTRATOR_CALLS_PER_SECOND": str(KEY_LIMIT)}
    seconds = plan.overload_seconds / 2
    async with ground(settings) as stack, connections(stack.addresses.grpc, 4) as channels, AsyncExitStack() as opened:
        await stack.part(WORKER).stop()
        quiet_key, flood_key, critical_key = [await _key(stack, name) for name in ("quiet", "flood", "critical")]
        # Of several keys together, none of which is at its limit.
        quiet = [
            Caller(channels, INGEST, key, batches())
            for key in (quiet_key, *[await _key(stack, f"quiet {number}") for number in range(4)])
        ]
        flood = await opened.enter_async_context(remote("bench.flood", stack.addresses.grpc, flood_key))
        critical = [Caller(channels, PREFERENCES, key, _opt_outs) for key in (flood_key, critical_key)]

        async def all_quiet() -> list[float]:
            found = await asyncio.gather(*(one.open_loop(QUIET / len(quiet), seconds) for one in quiet))
            return [took for one in found for took in one.accepted]

        await asyncio.gather(all_quiet(), *(one.open_loop(CRITICAL / 2, seconds) for one in critical))
        ratios, succeeded, made, shares = [], 0, 0, []
        for _ in range(3):
            before = await all_quiet()
            flooding = asyncio.ensure_future(flood.ask("flood", [10 * KEY_LIMIT, seconds]))
            stopping = [asyncio.ensure_future(one.open_loop(CRITICAL / 2, seconds)) for one in critical]
            during = await all_quiet()
            (flooded, served), stops = await flooding, await asyncio.gather(*stopping)
            ratios.append(percentile(during, 95) / percentile(before, 95))
            succeeded += sum(len(one.accepted) for one in stops)
            made += sum(len(one.all) for one in stops)
            shares.append(served / flooded)
    return [
        at_most(
            1.25,
            "one key at 10 × its limit: p95 of the others",
            median(ratios),
            "×",
            f"limit {KEY_LIMIT}/s, others {QUIET}/s; {100 * median(shares):.0f} % of the flood served; rounds "
            + " ".join(f"{one:.2f}" for one in ratios),
            against="the same without the flood",
            rounds=ratios,
        ),
        at_least(
            99.9, "the same: critical calls that succeed", 100 * succeeded / made, "%", f"{made} calls", swing=1.0
        ),
    ]


async def _deadlines(plan: Plan) -> list[Row]:
    """Calls with 50 ms to live, against statements that take seconds."""
    async with ground() as stack, connections(stack.addresses.grpc, 1) as (channel,):
        await stack.part(WORKER).stop()
        conn = await asyncpg.connect(stack.addresses.database_url)
        watching = await asyncpg.connect(stack.addresses.database_url)
        call: Any = channel.unary_unary(LIST)
        metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
        await call(b"", metadata=metadata)
        told, freed = [], []
        for _ in range(20):
            async with conn.transaction():
                await conn.execute("LOCK TABLE audiences IN ACCESS EXCLUSIVE MODE")
                began = time.perf_counter()
                try:
                    await call(b"", metadata=metadata, timeout=0.05)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise
                told.append(time.perf_counter() - began)
                while await watching.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                    await asyncio.sleep(0.002)
                freed.append(time.perf_counter() - began - told[-1])
        await conn.close()
        await watching.close()
    return [
        at_most(
            100, "50 ms to live, a statement of seconds: the caller is told, p95", 1000 * percentile(told, 95), "ms"
        ),
        at_most(500, "the same: PostgreSQL is free again after that, p95", 1000 * percentile(freed, 95), "ms"),
    ]


async def _recovery(caller: Caller, a_second: float, before: Outcomes) -> float:
    """Seconds until calls are as fast as before again, and all are served."""
    began = time.perf_counter()
    while True:
        found = await caller.open_loop(a_second, 1.0)
        if len(found.accepted) == len(found.all) and found.p(95) <= 1.25 * before.p(95):
            return time.perf_counter() - began - 1.0
        if time.perf_counter() - began > 30:
            return float("inf")


def _opt_outs() -> bytes:
    change = preferences_pb2.PreferenceChange(channel="email", opted_out=True)
    subject_id = f"s{time.monotonic_ns() % 5000}"
    return subject_service_pb2.UpdatePreferencesRequest(subject_id=subject_id, changes=[change]).SerializeToString()


async def _key(stack: Stack, name: str) -> str:
    headers = {"authorization": f"Bearer {stack.keys.owner}"}
    async with httpx.AsyncClient(base_url=stack.addresses.http, headers=headers) as api:
        answer = await api.post("/v1/apiKeys", json={"name": name, "role": "editor"})
    secret: str = answer.raise_for_status().json()["secret"]
    return secret


def _memory(stack: Stack) -> int:
    return int(psutil.Process(stack.part(SERVER).pid).memory_info().rss)


async def _lags(stack: Stack) -> dict[float, float]:
    """How often the server's loop was late by so many seconds at most."""
    async with httpx.AsyncClient(base_url=stack.addresses.http) as api:
        page = (await api.get("/metrics")).text
    (family,) = (
        one for one in text_string_to_metric_families(page) if one.name == "orchestrator_server_loop_lag_seconds"
    )
    return {float(one.labels["le"]): one.value for one in family.samples if one.name.endswith("_bucket")}


def _since(before: dict[float, float], after: dict[float, float]) -> float:
    """The bound within which 99 % of them were."""
    counts = {bound: after[bound] - before[bound] for bound in sorted(after)}
    total = counts[float("inf")]
    return next(bound for bound, count in counts.items() if count >= 0.99 * total)
