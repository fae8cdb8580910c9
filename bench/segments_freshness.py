"""How soon others can see a membership: that an event changed, and that time alone did, under one load.

Both end at the first look that shows the transition, by looks that begin a twentieth of a second apart: what is
measured is never too short.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
from temporalio.client import Client

from bench.event_batches import INGEST
from bench.ground import furnish
from bench.pace import at_pace
from bench.plan import Plan
from bench.rows import Row, at_most, percentile
from bench.until import until
from orchestrator.devstack.stack import Stack
from orchestrator.temporal.segments import SCHEDULE_ID
from orchestrator.v1 import event_service_pb2 as rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Record

FRESH_SECONDS, LAPSED_SECONDS = 2, 5

PACE = 100.0

#: Subjects whose windows run out while the load lasts, how long the windows are, and how soon the load begins.
LAPSING, WINDOW, LEAD = 400, timedelta(minutes=10), timedelta(seconds=10)

_NUMBER = "SELECT segment_no FROM segments WHERE project_no = $1 AND segment_id = $2"
_BUILT = "SELECT bool_and(built_revision IS NOT NULL) FROM segments WHERE segment_no = ANY ($1::int[])"
_NEWEST = "SELECT coalesce(max(transition_no), 0) FROM segment_transitions"
_MOVED = """
SELECT s.subject_id FROM segment_transitions AS t JOIN subjects AS s USING (project_no, bucket, subject_no)
 WHERE t.transition_no > $1 AND t.segment_no = $2 AND t.entered = $3
"""
_SWEEPING = "SELECT count(*) FROM segment_runs WHERE project_no = $1 AND kind = 'sweep' AND status = 'running'"


async def measure(plan: Plan, stack: Stack, conn: Connection[Record], project_no: int) -> list[Row]:
    """Among the subjects of this project, which are named `s1` … and so many as the plan says; a worker is at work."""
    brief = {"type": "last", "duration": f"{WINDOW.total_seconds():.0f}s"}
    rules = {
        "fresh": {"kind": "event_fired", "eventName": "fresh"},
        "brief": {"kind": "event_fired", "eventName": "brief", "window": brief},
    }
    await furnish(stack, *(("/v1/segments", {"id": one, "name": one, "rules": rules[one]}) for one in rules))
    fresh, lapsing = [await conn.fetchval(_NUMBER, project_no, one) for one in rules]
    await until(lambda: conn.fetchval(_BUILT, [fresh, lapsing]), within=300)
    temporal = await Client.connect(stack.addresses.temporal)
    await until(lambda: _is_scheduled(temporal), within=60)
    count = int(plan.fresh_seconds * PACE)
    subjects = [f"s{1 + number * 7919 % plan.subjects}" for number in range(count + LAPSING)]
    called: dict[str, float] = {}
    entered: dict[str, float] = {}
    left: dict[str, float] = {}
    looks: list[bool] = []
    async with grpc.aio.insecure_channel(stack.addresses.grpc) as channel:
        call = _Ingest(stack, channel)
        before = await conn.fetchval(_NEWEST)
        due = _instants(subjects[count:], plan.fresh_seconds)
        await call.brief(due)
        await until(lambda: _have_entered(conn, before, lapsing), within=LEAD.total_seconds())
        if (until_first := min(due.values()) - time.time()) < 0:
            raise AssertionError("windows ran out before all subjects were seen to be inside")
        await asyncio.sleep(until_first)

        async def watch() -> None:
            while len(entered) < count or len(left) < LAPSING:
                if not await conn.fetchval(_SWEEPING, project_no):
                    await temporal.get_schedule_handle(SCHEDULE_ID).trigger()
                looks.append(bool(await conn.fetchval(_SWEEPING, project_no)))
                for segment_no, has_entered, seen in ((fresh, True, entered), (lapsing, False, left)):
                    for row in await conn.fetch(_MOVED, before, segment_no, has_entered):
                        seen.setdefault(row[0], time.time())
                await asyncio.sleep(0.05)

        async def one(number: int) -> None:
            called[subjects[number]] = time.time()
            await call.fresh(subjects[number])

        async with asyncio.timeout(plan.fresh_seconds + 120):
            await asyncio.gather(watch(), at_pace(one, count, PACE))
    swept = f"a sweep ran {100 * sum(looks) / len(looks):.0f} % of the time"
    load = f"at {PACE:.0f} events/s while a sweep runs, p99"
    arrived = [entered[subject_id] - at for subject_id, at in called.items()]
    lapsed = [left[subject_id] - at for subject_id, at in due.items()]
    if min(lapsed) < 0:
        raise AssertionError("somebody left before the window ran out")
    return [
        at_most(
            FRESH_SECONDS, f"event → membership {load}", percentile(arrived, 99), "s", f"{_told(arrived)}; {swept}"
        ),
        at_most(
            LAPSED_SECONDS, f"window runs out → membership {load}", percentile(lapsed, 99), "s",
            f"{_told(lapsed)}; {LAPSING} subjects",
        ),
    ]  # fmt: skip


class _Ingest:
    """Calls IngestEvents over one channel."""

    def __init__(self, stack: Stack, channel: grpc.aio.Channel) -> None:
        self._metadata = (("authorization", f"Bearer {stack.keys.owner}"),)
        self._call: grpc.aio.UnaryUnaryMultiCallable[rpc.IngestEventsRequest, rpc.IngestEventsResponse] = (
            channel.unary_unary(
                INGEST,
                request_serializer=rpc.IngestEventsRequest.SerializeToString,
                response_deserializer=rpc.IngestEventsResponse.FromString,
            )
        )

    async def fresh(self, subject_id: str) -> None:
        request = rpc.IngestEventsRequest()
        request.events.add(event_id=f"fresh-{subject_id}", name="fresh", subject_id=subject_id)
        await self._call(request, metadata=self._metadata, timeout=10)

    async def brief(self, due: Mapping[str, float]) -> None:
        """An event of each of these subjects, whose window runs out at that instant."""
        request = rpc.IngestEventsRequest()
        for subject_id, at in due.items():
            event = request.events.add(event_id=f"brief-{subject_id}", name="brief", subject_id=subject_id)
            event.occur_time.FromDatetime(datetime.fromtimestamp(at, UTC) - WINDOW)
        answer = await self._call(request, metadata=self._metadata, timeout=10)
        if answer.accepted_count != len(due):
            raise AssertionError(f"{answer.accepted_count} of {len(due)} events were accepted")


def _instants(subject_ids: Sequence[str], seconds: float) -> dict[str, float]:
    """When the window of each runs out, in Unix time: from LEAD after now on, evenly over so many seconds."""
    first = time.time() + LEAD.total_seconds()
    return {subject_id: first + place * seconds / len(subject_ids) for place, subject_id in enumerate(subject_ids)}


def _told(delays: Sequence[float]) -> str:
    return f"p50 {percentile(delays, 50):.2f} s, max {max(delays):.2f} s"


async def _have_entered(conn: Connection[Record], before: int, segment_no: int) -> bool:
    return len(await conn.fetch(_MOVED, before, segment_no, True)) == LAPSING


async def _is_scheduled(temporal: Client) -> bool:
    return SCHEDULE_ID in [schedule.id async for schedule in await temporal.list_schedules()]
