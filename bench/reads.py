"""Authenticated GetJourney, against a bare grpc.aio handler that reads the same row."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import grpc

from bench import welcome
from bench.ground import WORKER, CoreTime, furnish, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.reads_bare import METHOD
from bench.remote import remote
from bench.rows import Row, at_least, beside, ratio, ratios, spread
from orchestrator.devstack.stack import SERVER
from orchestrator.v1 import journey_service_pb2 as rpc

TARGET = 0.6

#: Calls under way at once.
AT_ONCE = 32

OURS, BARE = "ours", "bare"

_REQUEST = rpc.GetJourneyRequest(journey_id=welcome.JOURNEY).SerializeToString()


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    rates: dict[str, list[float]] = {OURS: [], BARE: []}
    costs: dict[str, str] = {}
    async with ground() as stack:
        await furnish(stack, *welcome.communications(), *welcome.journey(welcome.JOURNEY, welcome.STEPS))
        await stack.part(WORKER).stop()
        async with remote("bench.reads_bare", stack.addresses.database_url) as bare:
            targets = {OURS: stack.addresses.grpc, BARE: f"127.0.0.1:{await bare.ask('port')}"}
            pids = {OURS: stack.part(SERVER).pid, BARE: bare.pid}
            metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
            answers = [(await _read(target, metadata, 0.5))[1] for target in targets.values()]
            if answers[0] != answers[1] or not answers[0].journey.definition.steps:
                raise AssertionError(f"different journeys: {answers}")
            for number in range(2 * plan.rounds):
                for side in (OURS, BARE) if number % 2 else (BARE, OURS):
                    used = CoreTime(stack, handler=pids[side])
                    began = time.perf_counter()
                    count, _ = await _read(targets[side], metadata, plan.read_seconds / 2)
                    rates[side].append(count / (time.perf_counter() - began))
                    costs[side] = used.told(count)
            of = f"GetJourney by {AT_ONCE} callers at once"
            async with profiled(stack, of, server=pids[OURS], client=os.getpid()) as profiles:
                await _read(targets[OURS], metadata, 2 * plan.read_seconds)
    return [
        at_least(
            TARGET,
            "GetJourney, against a bare handler",
            ratio(rates[OURS], rates[BARE]),
            "×",
            against="a bare grpc.aio handler",
            rounds=ratios(rates[OURS], rates[BARE]),
        ),
        beside("GetJourney", median(rates[OURS]), "/s", f"rounds {spread(rates[OURS])}; {costs[OURS]}"),
        beside("GetJourney, bare handler", median(rates[BARE]), "/s", f"rounds {spread(rates[BARE])}; {costs[BARE]}"),
        *profiles,
    ]


async def _read(
    target: str, metadata: tuple[tuple[str, str], ...], seconds: float
) -> tuple[int, rpc.GetJourneyResponse]:
    """How often in this time, and the last answer."""
    count, answer = 0, b""
    async with grpc.aio.insecure_channel(target) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
            METHOD, request_serializer=None, response_deserializer=None
        )
        await channel.channel_ready()
        until = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal count, answer
            while time.perf_counter() < until:
                answer = await call(_REQUEST, metadata=metadata, timeout=10)
                count += 1

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return count, rpc.GetJourneyResponse.FromString(answer)
