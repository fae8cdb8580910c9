"""What a person does to an execution in Temporal's pages while its provider is called: the call comes to its end, and
what came of it is known.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetActivityRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from orchestrator.temporal.contract import HEARTBEAT
from tests.eventually import eventually
from tests.integration.journey_world import World
from tests.workflows.world import Running, Slow, worker

if TYPE_CHECKING:
    from asyncpg import Pool, Record

Handle: TypeAlias = WorkflowHandle[Any, Any]

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"}
MONTH = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}

ACTIVITY = "0:hello"


class Called:
    """An execution whose provider is being called, and has no keys by which it would know a repeat."""

    def __init__(self, running: Running, channel: Slow, handle: Handle) -> None:
        self.running = running
        self.channel = channel
        self.handle = handle

    @property
    def workflow(self) -> WorkflowExecution:
        return WorkflowExecution(workflow_id=self.handle.id)

    async def terminate(self) -> None:
        await self.handle.terminate()

    async def cancel(self) -> None:
        await self.handle.cancel()

    async def pause_activity(self) -> None:
        client = self.running.client
        await client.workflow_service.pause_activity(
            PauseActivityRequest(namespace=client.namespace, execution=self.workflow, identity="test", id=ACTIVITY)
        )

    async def reset_activity(self) -> None:
        client = self.running.client
        await client.workflow_service.reset_activity(
            ResetActivityRequest(namespace=client.namespace, execution=self.workflow, identity="test", id=ACTIVITY)
        )

    async def reset(self) -> None:
        client = self.running.client
        workflow = WorkflowExecution(workflow_id=self.handle.id, run_id=(await self.handle.describe()).run_id)
        await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=workflow,
                workflow_task_finish_event_id=4,
                reason="test",
                request_id=uuid.uuid4().hex,
            )
        )


@pytest.fixture
async def called(furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]) -> AsyncIterator[Called]:
    channel = Slow(key_life=None)
    async with worker(temporal, database, worker_pool, channel):
        running = Running(furnished, temporal, worker_pool, channel)
        await running.publish(HELLO, MONTH, BYE)
        (entry,) = await running.enroll("ann")
        await asyncio.wait_for(channel.taken.wait(), 20)
        yield Called(running, channel, temporal.get_workflow_handle(entry.workflow_id))
        channel.answering.set()


@pytest.mark.parametrize(
    ("act", "goes_on"),
    [(Called.terminate, False), (Called.cancel, False), (Called.pause_activity, True), (Called.reset_activity, True)],
    ids=["terminate", "cancel", "pause-of-the-activity", "reset-of-the-activity"],
)
async def test_a_call_that_is_under_way_comes_to_its_end_whatever_is_done_in_temporal(
    called: Called, act: Callable[[Called], Awaitable[None]], goes_on: bool
) -> None:
    await act(called)
    await asyncio.wait_for(called.channel.told.wait(), 20)

    called.channel.answering.set()
    await called.running.until("EXISTS (SELECT FROM sends WHERE state = 'sent' AND attempt = 1)")

    if goes_on:
        await called.running.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause' AND outcome IS NULL)")
    else:
        status = WorkflowExecutionStatus.TERMINATED if act is Called.terminate else WorkflowExecutionStatus.CANCELED
        assert (await called.handle.describe()).status is status
    assert called.channel.calls == 1


async def test_a_reset_while_a_provider_without_keys_is_called_does_not_call_it_a_second_time(called: Called) -> None:
    await called.reset()
    await called.running.until("EXISTS (SELECT FROM sends WHERE state = 'unknown' AND attempt = 2)")

    called.channel.answering.set()
    await eventually(lambda: called.channel.messages != [])

    await called.running.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause' AND outcome IS NULL)")
    assert called.channel.calls == 1
    assert await called.running.visits() == [("hello", "executed", "unknown")]


async def test_signs_of_life_reach_temporal_several_times_while_it_waits_for_one(called: Called) -> None:
    heard: list[datetime] = []

    async def four_times() -> bool:
        (pending,) = (await called.handle.describe()).raw_description.pending_activities
        if pending.HasField("last_heartbeat_time"):
            at = pending.last_heartbeat_time.ToDatetime(UTC)
            if at not in heard:
                heard.append(at)
        return len(heard) == 4

    await eventually(four_times, within=40)

    # The first of all is passed on at once, whatever the pace.
    between = [(later - earlier).total_seconds() for earlier, later in pairwise(heard[1:])]
    assert min(between) <= HEARTBEAT / 2
