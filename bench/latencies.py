"""How long a call takes over HTTP, under `/v1` and at a documented path, against the same call over gRPC.

One call at a time, the ways in turn, so that all of them meet the same neighbours on the machine. The callers do as
little as they can: bytes that were made before go out, and the bytes that come back are looked at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import grpc

from bench import welcome
from bench.ground import WORKER, furnish, ground
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.rows import Row, at_most, beside, percentile, ratios, spread
from orchestrator.devstack.stack import SERVER, Stack
from orchestrator.v1 import audience_pb2 as audiences
from orchestrator.v1 import audience_service_pb2 as audience_rpc
from orchestrator.v1 import journey_service_pb2 as journey_rpc

TARGET = 1.5

GRPC, V1, DOCUMENTED = "gRPC", "/v1", "documented"
READ, WRITE = "GetJourney", "UpdateAudience"

_AUDIENCE = "measured"
_DESCRIPTION = "So that there is something to write"
_READ = journey_rpc.GetJourneyRequest(journey_id=welcome.JOURNEY).SerializeToString()
_WRITE = audience_rpc.UpdateAudienceRequest(
    audience=audiences.Audience(id=_AUDIENCE, description=_DESCRIPTION)
).SerializeToString()
_BODY = json.dumps({"description": _DESCRIPTION}).encode()

#: One call; it has been answered when this returns.
Call = Callable[[], Awaitable[None]]


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    rows: list[Row] = []
    async with ground() as stack:
        await furnish(
            stack,
            *welcome.communications(),
            *welcome.journey(welcome.JOURNEY, welcome.STEPS),
            ("/v1/audiences", {"id": _AUDIENCE, "name": "Measured", "predicate": {"kind": "everyone"}}),
        )
        await stack.part(WORKER).stop()
        async with _callers(stack) as calls:
            for what, ways in calls.items():
                rows += await _rows(what, ways, plan)
            over_http = {f"{what} {way}": made[way] for what, made in calls.items() for way in (V1, DOCUMENTED)}
            of = f"{READ} and {WRITE} over HTTP, one call at a time"
            async with profiled(stack, of, server=stack.part(SERVER).pid, client=os.getpid()) as profiles:
                await _round(over_http, 2 * plan.latencies)
    return [*rows, *profiles]


async def _rows(what: str, ways: dict[str, Call], plan: Plan) -> list[Row]:
    """Of one call: the ratios at both percentiles, with the milliseconds beside them."""
    halves: dict[str, list[float]] = {way: [] for way in ways}
    tails: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(plan.rounds):
        taken = await _round(ways, plan.latencies)
        for way, seconds in taken.items():
            halves[way].append(percentile(seconds, 50))
            tails[way].append(percentile(seconds, 99))
    rows = []
    for way in (V1, DOCUMENTED):
        for percent, found in ((50, halves), (99, tails)):
            name, rounds = f"{what} {way} p{percent}, against gRPC", ratios(found[way], found[GRPC])
            against = "the same call over gRPC"
            rows.append(at_most(TARGET, name, median(rounds), "×", against=against, rounds=rounds))
    for way in ways:
        note = f"p99 {median(tails[way]) * 1000:.2f} ms; rounds {spread([1000 * half for half in halves[way]])}"
        rows.append(beside(f"{what} {way} p50", 1000 * median(halves[way]), "ms", note))
    return rows


async def _round(ways: dict[str, Call], count: int) -> dict[str, list[float]]:
    """The seconds of so many calls of each way; each goes first as often as the others."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for _ in range(count):
        order.append(order.pop(0))
        for way in order:
            began = time.perf_counter()
            await ways[way]()
            taken[way].append(time.perf_counter() - began)
    return taken


@asynccontextmanager
async def _callers(stack: Stack) -> AsyncIterator[dict[str, dict[str, Call]]]:
    """By call and way."""
    key = f"Bearer {stack.keys.owner}"
    host, _, port = stack.addresses.http.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
            await channel.channel_ready()

            def typed(service: str, rpc: str, request: bytes) -> Call:
                call: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = channel.unary_unary(
                    f"/orchestrator.v1.{service}/{rpc}", request_serializer=None, response_deserializer=None
                )

                async def made() -> None:
                    await call(request, metadata=(("authorization", key),), timeout=10)

                return made

            def plain(verb: str, path: str, body: bytes = b"") -> Call:
                head = f"{verb} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\n"
                request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
                return lambda: _exchange(reader, writer, request)

            yield {
                READ: {
                    GRPC: typed("JourneyService", READ, _READ),
                    V1: plain("GET", f"/v1/journeys/{welcome.JOURNEY}"),
                    DOCUMENTED: plain("GET", f"/api/journeys/{welcome.JOURNEY}"),
                },
                WRITE: {
                    GRPC: typed("AudienceService", WRITE, _WRITE),
                    V1: plain("PATCH", f"/v1/audiences/{_AUDIENCE}", _BODY),
                    DOCUMENTED: plain("PATCH", f"/api/audiences/{_AUDIENCE}", _BODY),
                },
            }
    finally:
        writer.close()
        await writer.wait_closed()


async def _exchange(reader: StreamReader, writer: StreamWriter, request: bytes) -> None:
    """Raises AssertionError for what is no success."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = head.partition("content-length: ")[2].partition("\r")[0]
    body = await reader.readexactly(int(length))
    if not head.startswith("http/1.1 200"):
        raise AssertionError(f"{head} {body!r}")
