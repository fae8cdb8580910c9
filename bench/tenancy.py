"""What keeps projects apart costs: a read under row-level security beside the same without; and keys that are wrong in
different ways are told so in the same time.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import grpc

from bench import welcome
from bench.ground import WORKER, furnish, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.reads_bare import METHOD
from bench.rows import Row, at_most, beside
from orchestrator.devstack.postgres import OWNER
from orchestrator.domain.api_key import make_key
from orchestrator.storage import journeys, subjects
from orchestrator.storage.pool import API_ROLE, connection, open_pool
from orchestrator.v1 import journey_service_pb2 as rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

#: Times the same read by the tables' owner, whom no policy concerns.
TARGET = 1.10
#: Between the two medians.
SAME_TIME = 1.10

READS = 1000
SUBJECT = "ada"

_Read = Callable[["Connection[Record]"], Awaitable[object]]
_REQUEST = rpc.GetJourneyRequest(journey_id=welcome.JOURNEY).SerializeToString()


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    async with ground({"ORCHESTRATOR_WRONG_KEYS_PER_MINUTE": "1000000"}) as stack:
        subject = ("/v1/subjects:batchUpsert", {"subjects": [{"id": SUBJECT, "attributes": welcome.attributes(1)}]})
        journey = welcome.journey(welcome.JOURNEY, welcome.STEPS)
        await furnish(stack, *welcome.communications(), *journey, subject)
        await stack.part(WORKER).stop()
        dsn = stack.addresses.database_url
        guarded = await open_pool(dsn, role=API_ROLE, size=1, application_name="bench")
        bare = await open_pool(dsn, role=OWNER, size=1, application_name="bench")
        try:
            reads: dict[str, _Read] = {
                "journey": lambda conn: journeys.find(conn, 1, welcome.JOURNEY),
                "subject": lambda conn: subjects.find(conn, 1, SUBJECT),
            }
            costs = {name: await _compare(guarded, bare, read, READS * plan.rounds) for name, read in reads.items()}
            switching = await _switching(guarded)
            of = "a journey and a subject are read under row-level security, one after the other"
            async with profiled(stack, of, client=os.getpid()) as profiles, connection(guarded, 1) as conn:
                for _ in range(READS * plan.rounds):
                    for read in reads.values():
                        await read(conn)
        finally:
            await guarded.close()
            await bare.close()
        wrong = await _wrong_keys(stack.addresses.grpc, stack.keys.owner, 200 * plan.rounds)
    return [
        *(
            at_most(
                TARGET,
                f"{name} read under row-level security, against without",
                ours / alone,
                "×",
                against="the same read by the tables' owner, in time",
            )
            for name, (ours, alone) in costs.items()
        ),
        *(beside(f"{name} read under row-level security", 1e6 * ours, "µs") for name, (ours, _) in costs.items()),
        beside("entering another project, once for each time it changes", 1e6 * switching, "µs"),
        at_most(
            SAME_TIME,
            "key with one character wrong, against one that nobody has",
            max(wrong) / min(wrong),
            "×",
            f"medians {1000 * wrong[0]:.3f} and {1000 * wrong[1]:.3f} ms of interleaved calls",
            against="the other, in time",
        ),
        *profiles,
    ]


async def _compare(guarded: Pool[Record], bare: Pool[Record], read: _Read, reads: int) -> tuple[float, float]:
    """Medians of the seconds of a read on either; in turns, so that both meet the same neighbours on the machine."""
    ours: list[float] = []
    alone: list[float] = []
    async with connection(guarded, 1) as one, connection(bare, 1) as other:
        for conn in (one, other):
            # Else the owner's statement is planned anew each time, and the guarded one is not.
            await conn.execute("SET plan_cache_mode = force_generic_plan")
        for number in range(reads):
            sides = [(one, ours), (other, alone)]
            for conn, seconds in sides if number % 2 else reversed(sides):
                began = time.perf_counter()
                found = await read(conn)
                seconds.append(time.perf_counter() - began)
                if found is None:
                    raise AssertionError("it is not there")
    return median(ours), median(alone)


async def _switching(pool: Pool[Record]) -> float:
    """Seconds that a connection takes to stand in another project than before."""
    found = []
    for number in range(READS):
        began = time.perf_counter()
        async with connection(pool, 1 + number % 2):
            found.append(time.perf_counter() - began)
    return median(found)


async def _wrong_keys(target: str, key: str, count: int) -> tuple[float, float]:
    """Medians of the seconds in which is told that a key is wrong: one like a good one, and one like none."""
    nearly: list[float] = []
    unknown: list[float] = []
    async with grpc.aio.insecure_channel(target) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            METHOD, request_serializer=None, response_deserializer=None
        )
        for number in range(count):
            for spoiled, seconds in ((_nearly(key, number), nearly), (make_key(), unknown)):
                began = time.perf_counter()
                try:
                    await call(_REQUEST, metadata=(("authorization", f"Bearer {spoiled}"),), timeout=10)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                        raise
                    seconds.append(time.perf_counter() - began)
    return median(nearly), median(unknown)


def _nearly(key: str, number: int) -> str:
    """The key but for its last characters; another one for each number, since servers remember bad ones."""
    body = f"{key[:-12]}{number % 1000:03d}"
    return f"{body}_{zlib.crc32(body.encode()):08x}"
