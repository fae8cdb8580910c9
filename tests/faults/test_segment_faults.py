"""Workers die, stall and overlap while a hundred thousand memberships are worked on: afterwards each of them is right,
and its history tells everything once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import psutil
import pytest
from temporalio.client import Client

from orchestrator.devstack.stack import Stack, worker_name
from orchestrator.storage.pool import STANDSTILL
from orchestrator.temporal.segments import SEGMENTS_QUEUE, SWEEP_WORKFLOW, SweepInput
from tests.conftest import StartStack
from tests.faults.field import kill
from tests.faults.segment_field import MEANINGS, PRO, SUBJECTS, SegmentField, ago, body, bought

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

_CHUNKS = "(SELECT count(*) FROM segment_run_chunks) >= $1"


@asynccontextmanager
async def crowded(stack: Stack) -> AsyncIterator[tuple[SegmentField, httpx.AsyncClient]]:
    """Everybody is there, and has bought something long ago, and something that most windows still hold."""
    owner = await asyncpg.connect(stack.addresses.database_url)
    field = SegmentField(owner)
    now = await owner.fetchval("SELECT now()")
    try:
        async with httpx.AsyncClient(
            base_url=stack.addresses.http, headers={"X-Api-Key": stack.keys.owner}, timeout=30
        ) as http:
            await field.people()
            await field.imported("first", ago(now, 20), ago(now, 3))
            yield field, http
    finally:
        await owner.close()


async def define(http: httpx.AsyncClient, *segment_ids: str) -> None:
    for segment_id in segment_ids:
        answer = await http.post("/v1/segments", json=body(segment_id))
        assert answer.status_code == 200, answer.text


async def edit(http: httpx.AsyncClient, segment_id: str, rules: dict[str, Any]) -> None:
    answer = await http.patch(f"/v1/segments/{segment_id}", params={"updateMask": "rules"}, json={"rules": rules})
    assert answer.status_code == 200, answer.text


async def test_workers_killed_in_the_middle_of_a_build_and_of_a_sweep(
    start_stack: StartStack, temporal: Client
) -> None:
    stack = await start_stack()
    async with crowded(stack) as (field, http):
        await field.at_rest()

        await define(http, *MEANINGS)
        await field.until(_CHUNKS, 3)
        await kill(stack.part(worker_name(1)))
        await field.at_rest()
        after_build = await field.wrong()
        sweep = await temporal.start_workflow(SWEEP_WORKFLOW, SweepInput(), id="swept", task_queue=SEGMENTS_QUEUE)
        await field.until(_CHUNKS, 3)
        await kill(stack.part(worker_name(2)))
        await kill(stack.part(worker_name(1)))
        await sweep.result()
        await field.at_rest()

        assert after_build == []
        assert await field.wrong() == []
        assert await field.owner.fetchval("SELECT sum(drift) FROM segment_runs WHERE kind = 'sweep'") == 0
        runs = await field.owner.fetch("SELECT DISTINCT subjects FROM segment_runs WHERE kind = 'sweep'")
        assert [row["subjects"] for row in runs] == [SUBJECTS], "a part was lost or counted twice"


async def test_two_sweeps_at_once_while_segments_are_edited_and_events_come_in(
    start_stack: StartStack, temporal: Client
) -> None:
    stack = await start_stack()
    async with crowded(stack) as (field, http):
        await define(http, *MEANINGS)

        sweeps = [
            await temporal.start_workflow(SWEEP_WORKFLOW, SweepInput(), id=f"swept-{n}", task_queue=SEGMENTS_QUEUE)
            for n in range(2)
        ]
        await field.until(_CHUNKS, 2)
        await edit(http, "lately", bought(30, 2))
        await edit(http, "pros", {**PRO, "value": "free"})
        now = await field.owner.fetchval("SELECT now()")
        await field.imported("meanwhile", ago(now, 1))
        await edit(http, "lately", bought(7, 1))
        await asyncio.gather(*(sweep.result() for sweep in sweeps))
        await field.at_rest()

        edited = {**MEANINGS, "pros": ({**PRO, "value": "free"}, "s.attributes ->> 'tier' = 'free'")}
        assert await field.wrong(edited) == []
        assert await field.owner.fetchval("SELECT count(*) FROM segment_runs WHERE kind = 'sweep'") >= 1


async def test_a_pass_that_stalled_on_an_old_snapshot_does_not_undo_what_came_after(
    start_stack: StartStack, temporal: Client
) -> None:
    stack = await start_stack()
    async with crowded(stack) as (field, http):
        await define(http, *MEANINGS)
        await field.at_rest()

        sweep = await temporal.start_workflow(SWEEP_WORKFLOW, SweepInput(), id="stalls", task_queue=SEGMENTS_QUEUE)
        await field.until(_CHUNKS, 1)
        stalled = [psutil.Process(stack.part(worker_name(n)).pid) for n in (1, 2)]
        for process in stalled:
            process.suspend()
        # Everybody falls out of `lapsed` and `lately` changes hands while the passes hold what they have read.
        await field.owner.execute("DELETE FROM events WHERE subject_no % 2 = 0 AND event_id LIKE 'first-%-2'")
        await field.owner.execute("DELETE FROM subject_event_state WHERE subject_no % 2 = 0")
        await field.owner.execute("DELETE FROM subject_event_days WHERE subject_no % 2 = 0")
        await field.imported("later")
        await field.owner.execute(
            "UPDATE subjects SET attributes = jsonb_set(attributes, '{tier}', '\"free\"') WHERE subject_no % 6 = 0"
        )
        stalled[1].resume()
        # At once, unless the oldest entries are all of buckets that the one which stands still has alone: then when
        # Postgres ends its transactions, which have stood still since before this wait, or since their statement ended.
        await field.until("(SELECT count(*) FROM inbox) < $1", SUBJECTS, within=STANDSTILL.total_seconds() + 10)
        stalled[0].resume()
        await sweep.result()
        await field.at_rest()

        assert await field.wrong() == []


async def test_a_hundred_thousand_windows_run_out_at_one_instant(start_stack: StartStack) -> None:
    stack = await start_stack()
    async with crowded(stack) as (field, http):
        await define(http, *MEANINGS)
        await field.owner.execute("DELETE FROM events WHERE event_id LIKE 'first-%'")
        await field.owner.execute("TRUNCATE subject_event_state, subject_event_days")
        now = await field.owner.fetchval("SELECT now()")
        due = now + timedelta(seconds=45)
        await field.imported("all-at-once", ago(due, 7))
        await field.at_rest()
        assert await field.owner.fetchval("SELECT clock_timestamp()") < due, "too slow to see anybody leave"
        entered = await field.owner.fetchval(
            "SELECT count(*) FROM subject_segments WHERE segment_nos @> ARRAY[$1::int]", await field.number("lately")
        )

        await field.until("clock_timestamp() > $1", due)
        await field.until("EXISTS (SELECT FROM segment_transitions WHERE cause = 'time')")
        await kill(stack.part(worker_name(1)))
        await field.at_rest()
        took = await field.owner.fetchval("SELECT clock_timestamp() - $1::timestamptz", due)

        assert entered == SUBJECTS
        assert await field.wrong() == []
        left = await field.owner.fetchval(
            "SELECT count(*) FROM segment_transitions WHERE cause = 'time' AND NOT entered AND segment_no = $1",
            await field.number("lately"),
        )
        assert left == SUBJECTS
        assert took < timedelta(seconds=60)
