"""A whole crowd is enrolled while workers die: everybody is let in once, and started once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from temporalio.client import Client

from orchestrator.devstack.stack import worker_name
from orchestrator.devstack.supervisor import Supervisor
from orchestrator.domain.subject import bucket_of
from tests.conftest import StartStack
from tests.eventually import eventually
from tests.faults.field import ENVIRONMENT, Field, field_on, kill
from tests.soak import SOAK

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

CROWD = 1500

_ADD_SUBJECTS = """
INSERT INTO subjects (project_no, bucket, subject_id, created_at, updated_at)
SELECT 1, w.bucket, w.subject_id, now(), now() FROM unnest($1::smallint[], $2::text[]) AS w (bucket, subject_id)
"""

# Of each: how many enrollments, executions and workflow ids there are, and subjects they are of.
_LEFT = """
SELECT count(*) AS enrollments, count(e.execution_id) AS executions, count(DISTINCT e.workflow_id) AS workflows,
       count(DISTINCT (n.bucket, n.subject_no)) AS subjects
  FROM enrollments AS n
  LEFT JOIN executions AS e ON (e.project_no, e.bucket, e.subject_no, e.execution_id)
                             = (n.project_no, n.bucket, n.subject_no, n.enrollment_id)
"""


async def test_workers_killed_while_a_crowd_is_enrolled(
    start_stack: StartStack, temporal_namespace: str, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        steps = [
            {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"},
            {"id": "bye", "exit": {"reason": "finished"}},
        ]
        await field.call("POST", "/v1/journeys", {"id": "long", "name": "Long", "steps": steps})
        await field.call("POST", "/v1/journeys/long:publish", {})
        conn = await field.owner()
        people = [f"p-{n}" for n in range(CROWD)]
        await conn.execute(_ADD_SUBJECTS, [bucket_of(p) for p in people], people)

        job = await field.call("POST", "/v1/enrollmentJobs", {"journeyId": "long", "everyone": True})
        for third in range(1, 4):
            await _until(field, job["id"], third * CROWD // 4)
            # Both: one of them does the page, and tells of the one before.
            for number in (1, 2):
                await kill(stack.part(worker_name(number)))
        done = await _until(field, job["id"], None)

        assert (done["state"], done["enrolledCount"], done["lookedAtCount"]) == ("done", CROWD, CROWD)
        left = await conn.fetchrow(_LEFT)
        assert tuple(left or ()) == (CROWD, CROWD, CROWD, CROWD)
        client = await Client.connect(stack.addresses.temporal, namespace=temporal_namespace)

        async def all_started() -> bool:
            told = await conn.fetchval("SELECT count(*) FROM outbox") == 0
            return told and (await client.count_workflows("ExecutionStatus = 'Running'")).count == CROWD

        await eventually(all_started, within=60)
        await conn.close()


async def _until(field: Field, job_id: str, enrolled: int | None, *, within: float = 60) -> dict[str, Any]:
    """Wait until the job has enrolled so many (None: until it has ended), or has ended."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        answer = await field.http.get(f"/v1/enrollmentJobs/{job_id}")
        job: dict[str, Any] = answer.json()
        count = job.get("enrolledCount", 0)
        assert isinstance(count, int)
        assert job["state"] in ("running", "done"), job
        if job["state"] == "done" or (enrolled is not None and count >= enrolled):
            return job
        await asyncio.sleep(0.05)
    raise AssertionError(f"the job does not get on: {job}")


MANY = 100_000 if SOAK else 30_000

#: So many in a hundred are held out: enrolled and counted like all others, without an execution that takes its time. So
#: `make test-faults` starts some 300 executions here, and `make soak` all 100,000.
HELD_OUT = 0 if SOAK else 99

#: Seconds that the whole crowd may take.
PATIENCE = 3600.0 if SOAK else 600.0

#: What a worker may take up more, in MiB, between the first third and the last.
GROWTH = 24


@pytest.mark.timeout(3 * PATIENCE if SOAK else 900)
async def test_a_crowd_is_enrolled_once_though_workers_die_three_times_and_take_no_more_memory(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack = await start_stack(environment=ENVIRONMENT)
    async with field_on(stack, tmp_path) as field:
        steps = [{"id": "bye", "exit": {"reason": "finished"}}]
        holdout = {"holdout": {"percent": HELD_OUT}} if HELD_OUT else {}
        journey = {"id": "huge", "name": "Huge", "steps": steps, **holdout}
        await field.call("POST", "/v1/journeys", journey)
        await field.call("POST", "/v1/journeys/huge:publish", {})
        conn = await field.owner()
        people = [f"p-{n}" for n in range(MANY)]
        await conn.execute(_ADD_SUBJECTS, [bucket_of(p) for p in people], people)
        workers = [stack.part(worker_name(number)) for number in (1, 2)]

        job = await field.call("POST", "/v1/enrollmentJobs", {"journeyId": "huge", "everyone": True})
        for tenth in (1, 2, 3):
            await _until(field, job["id"], tenth * MANY // 10, within=PATIENCE / 2)
            for part in workers:
                await kill(part)
        await _until(field, job["id"], 5 * MANY // 10, within=PATIENCE / 2)
        before = _memory(workers)
        done = await _until(field, job["id"], None, within=PATIENCE)
        grown = _memory(workers) - before

        assert (done["state"], done["enrolledCount"], done["lookedAtCount"]) == ("done", MANY, MANY)
        left = await conn.fetchrow(_LEFT)
        assert left is not None
        assert (left["enrollments"], left["subjects"]) == (MANY, MANY)
        assert left["executions"] == left["workflows"] == MANY - done.get("heldOutCount", 0)
        assert grown < GROWTH * len(workers)

        async def all_over() -> bool:
            running = await conn.fetchval("SELECT count(*) FROM executions WHERE outcome IS DISTINCT FROM 'completed'")
            untold = await conn.fetchval("SELECT count(*) FROM outbox")
            return (running, untold) == (0, 0)

        await eventually(all_over, within=PATIENCE)
        await conn.close()


def _memory(workers: list[Supervisor]) -> float:
    """MiB of all of these."""
    return sum(psutil.Process(part.pid).memory_info().rss for part in workers) / 2**20
