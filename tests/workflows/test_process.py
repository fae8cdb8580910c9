"""What one worker process is to whoever runs it: it ends when a part of it has crashed, and it ends in time."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError

from orchestrator.application.enrollment import enroll
from orchestrator.application.versions import Versions
from tests.eventually import eventually
from tests.integration.journey_world import World
from tests.workflows.world import Running, Switchboard, worker
from workers.channels.channel import Accepted, Message, Refused
from workers.process import Limits, PartCrashed

if TYPE_CHECKING:
    from asyncpg import Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


async def test_a_process_of_which_a_part_has_crashed_ends_and_says_which(
    temporal: Client, worker_pool: Pool[Record], caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = "postgresql://127.0.0.1/none?sslmode=nonsense"  # the pool is open, but nobody can listen there

    async def work() -> None:
        async with worker(temporal, nowhere, worker_pool, Switchboard()):
            await asyncio.Event().wait()

    with pytest.raises(PartCrashed, match="inbox"):
        await asyncio.wait_for(work(), 20)

    assert [vars(r)["part"] for r in caplog.records if r.levelname == "CRITICAL"] == ["inbox"]


async def test_what_fails_while_a_process_works_is_raised_as_it_is(
    temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with worker(temporal, database, worker_pool, Switchboard()):
            raise LookupError("mine")


class Stalled(Switchboard):
    """A provider that does not answer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def send(self, message: Message) -> Accepted | Refused:
        self.called.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def test_all_parts_of_a_process_stop_at_the_same_time(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    grace = timedelta(seconds=4)
    stalled = [Stalled("log"), Stalled("webhook")]
    await furnished.add_communication("hook", "marketing", channel="webhook", settings={"url": "https://example.com/"})
    async with worker(temporal, database, worker_pool, *stalled, limits=Limits(grace=grace)):
        running = Running(furnished, temporal, worker_pool, stalled[0])
        await running.publish(HELLO, BYE)
        await running.publish({**HELLO, "send": {"communicationId": "hook"}}, BYE, journey_id="hooked")
        await running.enroll("ann")
        await running.enroll("ann", journey_id="hooked")
        for channel in stalled:
            await asyncio.wait_for(channel.called.wait(), 20)
        began = time.monotonic()

    assert time.monotonic() - began < 1.7 * grace.total_seconds()


async def test_a_build_that_is_not_current_lets_somebody_in_and_does_not_begin_the_execution(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    build = WorkerDeploymentVersion("orchestrator", "new")
    async with worker(temporal, database, worker_pool, Switchboard(), build=build):
        running = Running(furnished, temporal, worker_pool, Switchboard())
        await running.publish(HELLO, BYE)
        async with running.transactions.write(None) as conn:
            (entry,) = (await enroll(conn, furnished.scope, Versions(), "welcome", ["ann"])).told
        await running.owner.execute("UPDATE outbox SET leased_until = now()")  # so that the worker tells of it
        await running.until("NOT EXISTS (SELECT FROM outbox)")
        history = await temporal.get_workflow_handle(entry.workflow_id).fetch_history()
        begun = [EventType.Name(event.event_type) for event in history.events]

        await eventually(lambda: _is_made_current(temporal, build), within=40)
        await running.until("EXISTS (SELECT FROM executions WHERE outcome = 'completed')", within=40)

    assert begun == ["EVENT_TYPE_WORKFLOW_EXECUTION_STARTED", "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED"]


async def _is_made_current(client: Client, build: WorkerDeploymentVersion) -> bool:
    """Whether Temporal takes it for the current one from now on; it does once it has heard of the build."""
    current = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=build.deployment_name,
        build_id=build.build_id,
        identity="test",
        ignore_missing_task_queues=True,
    )
    try:
        await client.workflow_service.set_worker_deployment_current_version(current)
    except RPCError:
        return False
    return True
