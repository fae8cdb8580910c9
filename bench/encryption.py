"""What it costs to encrypt histories: whole journeys, in turn by a worker with a key and by one without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from statistics import median

import asyncpg
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from bench import welcome
from bench.ground import WORKER, furnish, ground
from bench.journeys import WARM_UP, run_through
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import remote
from bench.rows import Row, at_most, beside, ratio, ratios, spread
from orchestrator.devstack.stack import SERVER
from orchestrator.temporal.contract import SEARCH_ATTRIBUTES
from orchestrator.temporal.keyring import make_payload_key

#: Of the time that a journey takes without.
MOST = 1.1

CLEAR, ENCRYPTED = "clear", "encrypted"


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    key = make_payload_key()
    seconds: dict[str, list[float]] = {CLEAR: [], ENCRYPTED: []}
    async with ground() as stack, AsyncExitStack() as opened:
        await furnish(stack, *welcome.communications(), *welcome.journey(welcome.JOURNEY, welcome.STEPS))
        for part in (SERVER, WORKER):
            await stack.part(part).stop()
        dsn, temporal = stack.addresses.database_url, stack.addresses.temporal
        conn = await asyncpg.connect(dsn)
        opened.push_async_callback(conn.close)
        await _register(temporal, seconds)
        for number in range(2 * plan.journey_rounds):
            for side in (CLEAR, ENCRYPTED) if number % 2 else (ENCRYPTED, CLEAR):
                # One after the other, and each in a namespace of its own: the clear side, which pays for no codec,
                # could not read what the other one leaves.
                keys = [key] if side == ENCRYPTED else []
                async with remote("bench.journeys_ours", dsn, temporal, side, *keys) as process:
                    await run_through(conn, process, f"{side}-{number}-warm-up", WARM_UP)
                    took = await run_through(conn, process, f"{side}-{number}", plan.journeys)
                seconds[side].append(took)
        count = plan.journeys // 2
        async with remote("bench.journeys_ours", dsn, temporal, ENCRYPTED, key) as process:
            await run_through(conn, process, "profiled-warm-up", WARM_UP)
            async with profiled(stack, f"{count} journeys, encrypted", worker=process.pid) as profiles:
                await run_through(conn, process, "profiled", count)
    rates = {side: [plan.journeys / took for took in rounds] for side, rounds in seconds.items()}
    return [
        at_most(
            MOST,
            "encrypted",
            ratio(seconds[ENCRYPTED], seconds[CLEAR]),
            "×",
            against="the same in the clear, in time",
            rounds=ratios(seconds[ENCRYPTED], seconds[CLEAR]),
        ),
        beside("journeys, encrypted", median(rates[ENCRYPTED]), "/s", f"rounds {spread(rates[ENCRYPTED])}"),
        beside("journeys, in the clear", median(rates[CLEAR]), "/s", f"rounds {spread(rates[CLEAR])}"),
        *profiles,
    ]


async def _register(address: str, namespaces: Iterable[str]) -> None:
    """Make these, with our search attributes."""
    client = await Client.connect(address)
    attributes = {
        name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}") for name, kind in SEARCH_ATTRIBUTES.items()
    }
    for name in namespaces:
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86_400))
        )
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=name, search_attributes=attributes)
        )
