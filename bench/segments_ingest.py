"""Events a second while segments ask about them: with `where`, without, and with a worker that follows."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import ingest
from bench.ground import WORKER, furnish
from bench.plan import Plan
from bench.remote import remote
from bench.rows import Row, at_least, beside, spread
from bench.until import until
from orchestrator.devstack.stack import Stack

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_LARGE_ORDERS = [{"fieldPath": "amount", "operator": "greater_than", "value": amount} for amount in (50, 100, 150)]
_BUILT = "SELECT NOT EXISTS (SELECT FROM segments WHERE segment_id LIKE 'where-%' AND built_revision IS NULL)"
_AT_REST = "SELECT NOT EXISTS (SELECT FROM inbox)"


async def measure(plan: Plan, stack: Stack, conn: Connection[Record], segments: int) -> list[Row]:
    """On a stack with so many segments, whose worker is stopped, and is so again afterwards.

    What ingest itself does for segments it does for those with `where`, so there are some, about three quarters of
    the events that come.
    """
    asked = {f"where-{name}-{number}": _where(name, where) for name in ("look", "cart", "search")
             for number, where in enumerate(_LARGE_ORDERS)}  # fmt: skip
    await furnish(stack, *(("/v1/segments", {"id": one, "name": one, "rules": asked[one]}) for one in asked))
    await stack.part(WORKER).start()
    await until(lambda: conn.fetchval(_BUILT), within=600)
    over_grpc, application, beside_worker, followed = [], [], [], []
    await ingest.over_grpc(stack, "live-warm-up", 10_000)
    for number in range(plan.passes):
        await until(lambda: conn.fetchval(_AT_REST), within=600)
        began = time.perf_counter()
        beside_worker.append(plan.events / await ingest.over_grpc(stack, f"followed-{number}", plan.events))
        await until(lambda: conn.fetchval(_AT_REST), within=600)
        followed.append(plan.events / (time.perf_counter() - began))
    await stack.part(WORKER).stop()  # as in the bench of ingest
    async with remote("bench.ingest_process", stack.addresses.database_url) as process:
        await process.ask("take", ["live-warm-up-too", 5_000])
        for number in range(plan.rounds):
            over_grpc.append(plan.events / await ingest.over_grpc(stack, f"live-{number}", plan.events))
            await conn.execute("TRUNCATE inbox")
            application.append(plan.events / await process.ask("take", [f"live-app-{number}", plan.events]))
            await conn.execute("TRUNCATE inbox")
    live = f"with {segments} segments, {len(asked)} more with `where`"
    return [
        at_least(
            ingest.OVER_GRPC, f"ingest over gRPC, {live}", median(over_grpc), "events/s", f"rounds {spread(over_grpc)}"
        ),
        at_least(
            ingest.AT_APPLICATION, f"ingest at the application layer, {live}", median(application), "events/s",
            f"rounds {spread(application)}",
        ),
        beside(
            f"ingest over gRPC, {live}, beside a worker", median(beside_worker), "events/s",
            f"rounds {spread(beside_worker)}; all of it on the same cores",
        ),
        beside(
            "events until each membership is true again", median(followed), "events/s",
            f"rounds {spread(followed)}; from the first call until the inbox is empty",
        ),
    ]  # fmt: skip


def _where(name: str, where: dict[str, Any]) -> dict[str, Any]:
    window = {"type": "last_n_days", "days": 30}
    return {"kind": "event_fired", "eventName": name, "window": window, "where": {"kind": "attribute", **where}}
