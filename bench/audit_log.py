"""What it costs that the audit log is a chain: a change whose entry is queued for its seal, beside one whose entry is
not; sealing; making the chain again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import asyncpg
import grpc

from bench.ground import WORKER, furnish, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.rows import Row, at_least, at_most, beside, ratio, ratios, spread
from orchestrator.application.audit_sealing import AuditSealing
from orchestrator.application.audit_verification import verify
from orchestrator.application.transactions import Transactions
from orchestrator.devstack.stack import SERVER, Stack
from orchestrator.domain.audit_chain import Anchors
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.v1 import audience_service_pb2 as rpc

#: Calls in a second, of those whose entry nobody seals.
TARGET = 0.9
#: Seconds for a hundred thousand entries.
VERIFIED_WITHIN = 15.0

ENTRIES = 100_000
AT_ONCE = 8

OURS, BARE = "ENABLE ALWAYS", "DISABLE"

_SWITCH = "ALTER TABLE audit_log {} TRIGGER queue_for_sealing"

METHOD = "/orchestrator.v1.AudienceService/UpdateAudience"

_MANY = """
INSERT INTO audit_log (project_no, at, actor, action, resource_kind, resource_id, metadata)
SELECT 1, now(), 'key:bench', 'journey_updated', 'journey', 'journey-' || n, '{"fields": "name"}'
  FROM generate_series(1, $1) AS n
"""


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    rates: dict[str, list[float]] = {OURS: [], BARE: []}
    audiences = [{"id": f"a-{number}", "name": "A", "predicate": {"kind": "everyone"}} for number in range(AT_ONCE)]
    async with ground() as stack:
        await furnish(stack, *(("/v1/audiences", audience) for audience in audiences))
        await stack.part(WORKER).stop()
        dsn = stack.addresses.database_url
        owner = await asyncpg.connect(dsn)
        workers = await open_pool(dsn, role=WORKER_ROLE, size=2, application_name="bench")
        try:
            await owner.execute(_MANY, ENTRIES)
            await owner.execute("ANALYZE audit_log, audit_unsealed")
            began = time.perf_counter()
            sealed = await AuditSealing(Transactions(workers)).seal()
            sealing = sealed / (time.perf_counter() - began)
            began = time.perf_counter()
            found = await verify(owner, 1, Anchors())
            verifying = time.perf_counter() - began
            if found.head.seq < ENTRIES or found.misfit is not None:
                raise AssertionError(f"{sealed} were sealed: {found}")
            await _change(stack, 0.2)
            for number in range(2 * plan.rounds):
                for side in (OURS, BARE) if number % 2 else (BARE, OURS):
                    await owner.execute(_SWITCH.format(side))
                    rates[side].append(await _change(stack, plan.read_seconds / 2))
            await owner.execute(_SWITCH.format(OURS))
            async with profiled(stack, "UpdateAudience", server=stack.part(SERVER).pid) as profiles:
                await _change(stack, plan.read_seconds)
        finally:
            await workers.close()
            await owner.close()
    return [
        at_least(
            TARGET,
            "UpdateAudience, against one whose audit entry is not sealed",
            ratio(rates[OURS], rates[BARE]),
            "×",
            against="the same without a seal",
            rounds=ratios(rates[OURS], rates[BARE]),
        ),
        at_most(VERIFIED_WITHIN, "audit log of 100,000 entries, verified", verifying, "s"),
        beside("audit entries sealed", sealing, "/s"),
        beside("UpdateAudience", median(rates[OURS]), "/s", f"rounds {spread(rates[OURS])}"),
        beside("UpdateAudience, not sealed", median(rates[BARE]), "/s", f"rounds {spread(rates[BARE])}"),
        *profiles,
    ]


async def _change(stack: Stack, seconds: float) -> float:
    """Calls in a second, each of several callers about an audience of its own."""
    metadata, count = (("authorization", f"Bearer {stack.keys.owner}"),), 0
    async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            METHOD, request_serializer=None, response_deserializer=None
        )
        await channel.channel_ready()
        began = time.perf_counter()

        async def caller(number: int) -> None:
            nonlocal count
            turn = 0
            while time.perf_counter() < began + seconds:
                turn += 1
                request = rpc.UpdateAudienceRequest()
                request.audience.id, request.audience.name = f"a-{number}", f"A {turn} {began}"
                await call(request.SerializeToString(), metadata=metadata, timeout=10)
                count += 1

        await asyncio.gather(*(caller(number) for number in range(AT_ONCE)))
        return count / (time.perf_counter() - began)
