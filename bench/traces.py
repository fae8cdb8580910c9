"""What traces cost: whole journeys, in turn by a worker that sends traces of everything and by one that sends none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

import asyncpg
import grpc

from bench import welcome
from bench.ground import WORKER, furnish, ground
from bench.journeys import WARM_UP, run_through
from bench.plan import Plan
from bench.profiles import Profile, profiled
from bench.remote import remote
from bench.rows import Row, at_most, beside, ratio, ratios, spread
from orchestrator.devstack.stack import SERVER

#: Of the time that a journey takes without.
MOST = 1.3

SILENT, TRACED = "silent", "traced"

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


async def measure(plan: Plan) -> Sequence[Row | Profile]:
    seconds: dict[str, list[float]] = {SILENT: [], TRACED: []}
    sizes: list[int] = []
    module = "bench.journeys_ours"
    async with ground() as stack:
        await furnish(stack, *welcome.communications(), *welcome.journey(welcome.JOURNEY, welcome.STEPS))
        for part in (SERVER, WORKER):
            await stack.part(part).stop()
        dsn, temporal = stack.addresses.database_url, stack.addresses.temporal
        conn = await asyncpg.connect(dsn)
        try:
            with _swallowing(sizes) as endpoint:
                for number in range(2 * plan.journey_rounds):
                    for side in (SILENT, TRACED) if number % 2 else (TRACED, SILENT):
                        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint if side == TRACED else ""}
                        async with remote(module, dsn, temporal, environment=environment) as process:
                            await run_through(conn, process, f"{side}-{number}-warm-up", WARM_UP)
                            took = await run_through(conn, process, f"{side}-{number}", plan.journeys)
                        seconds[side].append(took)
                kib = sum(sizes) / (2 * plan.journey_rounds * (plan.journeys + WARM_UP)) / 1024
                count = plan.journeys // 2
                environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
                async with remote(module, dsn, temporal, environment=environment) as process:
                    await run_through(conn, process, "profiled-warm-up", WARM_UP)
                    async with profiled(stack, f"{count} journeys, traced", worker=process.pid) as profiles:
                        await run_through(conn, process, "profiled", count)
        finally:
            await conn.close()
    if not sizes:
        raise AssertionError("no trace has come")
    rates = {side: [plan.journeys / took for took in rounds] for side, rounds in seconds.items()}
    return [
        at_most(
            MOST,
            "traced, against the same without",
            ratio(seconds[TRACED], seconds[SILENT]),
            "×",
            against="the same without, in time",
            rounds=ratios(seconds[TRACED], seconds[SILENT]),
        ),
        beside("journeys, traced", median(rates[TRACED]), "/s", f"rounds {spread(rates[TRACED])}"),
        beside("journeys, not traced", median(rates[SILENT]), "/s", f"rounds {spread(rates[SILENT])}"),
        beside("spans of a journey", kib, "KiB"),
        *profiles,
    ]


@contextmanager
def _swallowing(sizes: list[int]) -> Iterator[str]:
    """A receiver that counts bytes, and its address."""

    def export(message: bytes, context: object) -> bytes:
        sizes.append(len(message))
        return b""

    with ThreadPoolExecutor(max_workers=1) as threads:
        server = grpc.server(threads)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(export)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
