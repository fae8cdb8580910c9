"""Four worker processes against one: where a provider takes its time, and where a message takes a lot of computing.

One execution sends several messages, one after the other, and what is measured are messages: from the one with which
the first third has gone out to that with which nine tenths have. Until then processes start, and at the end they idle.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
from tests.provider.client import running_provider
from tests.provider.provider import Mode

from bench import welcome
from bench.bare_rendering import heavy_template
from bench.callers import Enroller
from bench.ground import WORKER, furnish, ground
from bench.plan import Plan
from bench.remote import Remote, remote
from bench.rows import Row, at_least, beside, ratio, ratios, spread
from bench.sending_worker import NETWORK, SECRET
from bench.until import until
from orchestrator.devstack.stack import Stack

if TYPE_CHECKING:
    from asyncpg import Connection, Record

AGAINST_ONE = 3.0
#: Of what as many cores as there are, and no more than processes, could do.
OF_CORES = 0.9

ONE, FOUR = 1, 4

#: Seconds that the provider takes, and places at it of each process: four times as many messages still leave some room
#: on two cores, which Temporal and Postgres need too. A worker has 32 places.
PROVIDER_TAKES, PLACES = 0.1, 2

#: Messages of an execution, and core-seconds that a heavy one takes to render: about what templates may take at most.
PROVIDER_MESSAGES, HEAVY_MESSAGES, HEAVY = 10, 5, 0.2

#: Seconds of rendering and nothing else.
BARE_SECONDS = 4.0

CALLS, DRAWS = "calls", "draws"

FIRST, LAST = 0.33, 0.9

_SENT = """
SELECT d.settled_at
  FROM sends AS d JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE d.project_no = 1 AND d.state = 'sent' AND s.subject_id LIKE $1 || '-%'
 ORDER BY 1
"""
_AT_REST = "SELECT NOT EXISTS (SELECT FROM executions WHERE project_no = 1 AND outcome IS NULL)"


async def measure(plan: Plan) -> list[Row]:
    settings = {
        "ORCHESTRATOR_WEBHOOK_SECRETS": SECRET,
        "ORCHESTRATOR_WEBHOOK_NETWORKS": NETWORK,
        "ORCHESTRATOR_WEBHOOK_PLAIN_HTTP": "true",
    }
    template = heavy_template(HEAVY / 2)
    rates: dict[tuple[str, int], list[float]] = {(what, count): [] for what in (CALLS, DRAWS) for count in (ONE, FOUR)}
    async with ground(settings) as stack, AsyncExitStack() as opened:
        await stack.part(WORKER).stop()
        receipts = opened.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-bench-"))
        provider = await opened.enter_async_context(running_provider(Path(receipts)))
        await provider.set_mode(Mode(delay=PROVIDER_TAKES))
        told = {"channel": "webhook", "category": "marketing", "body": "Hello", "settings": {"url": provider.url}}
        # Subject and body are rendered together, and each may take as much as a template may.
        drawn = {"channel": "log", "category": "marketing", "subject": template, "body": template}
        await furnish(
            stack,
            ("/v1/communications", {"id": CALLS, "name": CALLS, **told}),
            ("/v1/communications", {"id": DRAWS, "name": DRAWS, **drawn}),
            *welcome.journey(CALLS, _steps(CALLS, PROVIDER_MESSAGES)),
            *welcome.journey(DRAWS, _steps(DRAWS, HEAVY_MESSAGES)),
        )
        conn = await asyncpg.connect(stack.addresses.database_url)
        opened.push_async_callback(conn.close)
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(stack.addresses.grpc))
        enroller = Enroller(stack, channel)
        bare = await _bare(template, plan.scale_rounds)
        asked = {CALLS: plan.provider_sends // PROVIDER_MESSAGES, DRAWS: plan.heavy_sends // HEAVY_MESSAGES}
        for number in range(plan.scale_rounds):
            for what, executions in asked.items():
                for count in (ONE, FOUR) if number % 2 else (FOUR, ONE):
                    subjects = [f"{what}-{count}-{number}-{n}" for n in range(executions * count)]
                    rates[what, count].append(await _rate(stack, conn, enroller, what, subjects, count))
        taken = len({receipt.key for receipt in provider.accepted()})
        wanted = plan.scale_rounds * (ONE + FOUR) * asked[CALLS] * PROVIDER_MESSAGES
        if taken != wanted or len(provider.accepted()) != wanted:
            raise AssertionError(f"{wanted} messages were sent, and the provider has {taken} of them")
    return _rows(rates, bare)


def _steps(communication_id: str, messages: int) -> list[dict[str, Any]]:
    ids = [*(f"m{number}" for number in range(messages)), "end"]
    sends = [
        {"id": one, "send": {"communicationId": communication_id}, "next": after}
        for one, after in itertools.pairwise(ids)
    ]
    return [*sends, {"id": "end", "exit": {"reason": "finished"}}]


async def _rate(
    stack: Stack, conn: Connection[Record], enroller: Enroller, journey_id: str, subjects: list[str], count: int
) -> float:
    """Messages a second by so many processes."""
    arguments = (stack.addresses.database_url, stack.addresses.temporal, str(PLACES))
    async with AsyncExitStack() as workers:
        await asyncio.gather(
            *(workers.enter_async_context(remote("bench.sending_worker", *arguments)) for _ in range(count))
        )
        for start in range(0, len(subjects), 100):
            await enroller.enroll(journey_id, subjects[start : start + 100])
        await until(lambda: conn.fetchval(_AT_REST), within=600)
    series = subjects[0].rpartition("-")[0]
    sent: list[datetime] = [row["settled_at"] for row in await conn.fetch(_SENT, series)]
    first, last = int(FIRST * len(sent)), int(LAST * len(sent))
    return (last - first) / (sent[last] - sent[first]).total_seconds()


async def _bare(template: str, rounds: int) -> float:
    """How much more four processes render than one."""
    async with AsyncExitStack() as opened:
        processes: list[Remote] = [
            await opened.enter_async_context(remote("bench.bare_rendering")) for _ in range(FOUR)
        ]
        found: list[float] = []
        for _ in range(rounds):
            alone = await processes[0].ask("rate", [template, BARE_SECONDS])
            together = await asyncio.gather(*(one.ask("rate", [template, BARE_SECONDS]) for one in processes))
            found.append(sum(together) / alone)
    return median(found)


def _rows(rates: dict[tuple[str, int], list[float]], bare: float) -> list[Row]:
    against = "one worker process"
    cores = min(FOUR, len(os.sched_getaffinity(0)))
    return [
        at_least(
            AGAINST_ONE, f"messages to a provider that takes {1000 * PROVIDER_TAKES:g} ms, {FOUR} workers",
            ratio(rates[CALLS, FOUR], rates[CALLS, ONE]), "×",
            f"{PLACES} places at the provider for each process instead of 32, with which one would ask for more than "
            f"these cores can do; {FOUR}: {spread(rates[CALLS, FOUR])}/s, one: {spread(rates[CALLS, ONE])}/s",
            against=against, rounds=ratios(rates[CALLS, FOUR], rates[CALLS, ONE]),
        ),
        at_least(
            OF_CORES * cores, f"messages that take {HEAVY:g} core-s to render, {FOUR} workers",
            ratio(rates[DRAWS, FOUR], rates[DRAWS, ONE]), "×",
            f"{FOUR}: {spread(rates[DRAWS, FOUR])}/s, one: {spread(rates[DRAWS, ONE])}/s; Temporal and Postgres on the "
            "same cores",
            against=against, rounds=ratios(rates[DRAWS, FOUR], rates[DRAWS, ONE]),
        ),
        beside(
            f"the same rendering and nothing else, {FOUR} processes", bare, "×", "what these cores have to give",
            against="one process",
        ),
    ]  # fmt: skip
