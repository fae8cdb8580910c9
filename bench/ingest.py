"""Events a second, with aggregates and inbox rows: over gRPC, at the application layer, and against a bare COPY."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc

from bench import purchases
from bench.event_batches import INGEST
from bench.ground import WORKER, CoreTime, ground
from bench.ingest_process import AT_ONCE
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import remote
from bench.rows import Row, at_least, beside, ratio, ratios, spread
from orchestrator.devstack.stack import SERVER, Stack
from orchestrator.v1 import event_service_pb2 as rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Record

OVER_GRPC = 8_000
AT_APPLICATION = 15_000

# Like the table of events: partitioned, and indexed the same.
_BARE_EVENTS = """
CREATE TABLE bare_events (LIKE events INCLUDING DEFAULTS) PARTITION BY RANGE (occurred_at);
CREATE INDEX ON bare_events (project_no, bucket, subject_no, name_no, occurred_at);
CREATE TABLE bare_events_now PARTITION OF bare_events DEFAULT;
GRANT SELECT, INSERT ON bare_events TO orchestrator_worker;
"""

_DIFFERENT = """
SELECT count(*) FROM (
    (SELECT * FROM events WHERE event_id LIKE $1 || '-%' EXCEPT ALL SELECT * FROM bare_events)
    UNION ALL (SELECT * FROM bare_events EXCEPT ALL SELECT * FROM events WHERE event_id LIKE $1 || '-%')) AS d
"""

_COUNTED = """
SELECT (SELECT count(*) FROM events), (SELECT sum(total) FROM subject_event_state WHERE name_no > 0),
       (SELECT sum(total) FROM subject_event_days), (SELECT sum(cardinality(event_nos)) FROM inbox)
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    grpc_rates: list[float] = []
    application: list[float] = []
    copied: list[float] = []
    async with ground() as stack:
        await stack.part(WORKER).stop()  # it would work through the inbox on the same cores
        conn = await asyncpg.connect(stack.addresses.database_url)
        await conn.execute(_BARE_EVENTS)
        async with remote("bench.ingest_process", stack.addresses.database_url) as process:
            await over_grpc(stack, "warm-up", 10_000)
            await process.ask("take", ["warm-up-too", 5_000])
            await _require_counted(conn, 15_000)
            for number in range(plan.rounds):
                used = CoreTime(stack, server=stack.part(SERVER).pid, client=os.getpid())
                seconds = await over_grpc(stack, f"grpc-{number}", plan.events)
                grpc_rates.append(plan.events / seconds)
                grpc_cost = used.told(plan.events)
                await conn.execute("TRUNCATE inbox")
                used = CoreTime(stack, process=process.pid)
                series = f"app-{number}"
                application.append(plan.events / await process.ask("take", [series, plan.events]))
                application_cost = used.told(plan.events)
                await conn.execute("TRUNCATE inbox, bare_events")
                copied.append(plan.events / await process.ask("copy", series))
                if await conn.fetchval(_DIFFERENT, series):
                    raise AssertionError("the copied events differ from those taken in")
            of = f"{plan.events:,} events over gRPC"
            async with profiled(stack, of, server=stack.part(SERVER).pid, client=os.getpid()) as profiles:
                await over_grpc(stack, "profiled", plan.events)
        await conn.close()
    return [
        at_least(
            OVER_GRPC, "ingest over gRPC", median(grpc_rates), "events/s", f"rounds {spread(grpc_rates)}; {grpc_cost}"
        ),
        at_least(
            AT_APPLICATION,
            "ingest at the application layer",
            median(application),
            "events/s",
            f"rounds {spread(application)}; {application_cost}",
        ),
        beside(
            "ingest, against bare COPY into events alone",
            ratio(application, copied),
            "×",
            against="COPY of the same rows",
            better="more",
            rounds=ratios(application, copied),
        ),
        beside("bare COPY into events alone", median(copied), "events/s", f"rounds {spread(copied)}"),
        *profiles,
    ]


async def over_grpc(stack: Stack, series: str, count: int) -> float:
    """Seconds to have a series accepted, made up and serialized before."""
    requests = [
        _request(series, range(start, min(start + purchases.BATCH, count))).SerializeToString()
        for start in range(0, count, purchases.BATCH)
    ]
    left: Iterator[bytes] = iter(requests)
    metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
    accepted = 0
    async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            INGEST,
            request_serializer=None,
            response_deserializer=rpc.IngestEventsResponse.FromString,
        )

        async def caller() -> None:
            nonlocal accepted
            for request in left:
                answer = await call(request, metadata=metadata, timeout=60)
                accepted += answer.accepted_count

        await channel.channel_ready()
        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        seconds = time.perf_counter() - began
    if accepted != count:
        raise AssertionError(f"{accepted} of {count} events were accepted")
    return seconds


def _request(series: str, numbers: range) -> rpc.IngestEventsRequest:
    request = rpc.IngestEventsRequest()
    for number in numbers:
        event = request.events.add(
            event_id=purchases.event_id(series, number),
            name=purchases.name(number),
            subject_id=purchases.subject_id(number),
        )
        event.occur_time.FromDatetime(purchases.occurred_at(number))
        event.properties.update(purchases.properties(number))
    return request


async def _require_counted(conn: Connection[Record], count: int) -> None:
    """Raises AssertionError unless events, both aggregates and the inbox have counted so many."""
    counted = tuple(await conn.fetchrow(_COUNTED) or ())
    if counted != (count,) * 4:
        raise AssertionError(f"{count} events were taken in, and the tables say {counted}")
