"""What a person does to an execution in Temporal's pages while its provider is called: the call comes to its end, and
what came of it is known.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    PauseActivityRequest,
    ResetActivityRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.contract import HEARTBEAT, channel_queue
from tests.eventually import eventually
from tests.integration.journey_world import World
from tests.own_temporal import temporal_with
from tests.workflows.world import Running, Slow, worker
from workers.channels.channel import Accepted, ChannelUnavailable, Refused
from workers.process import Limits

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

    async def events(self) -> list[str]:
        history = await self.handle.fetch_history()
        return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events]

    async def terminate(self) -> None:
        await self.handle.terminate()

    async def cancel(self) -> None:
        await self.handle.cancel()

    async def pause_activity(self) -> None:
        await pause_activity(self.running.client, self.handle.id)

    async def reset_activity(self) -> None:
        client, workflow = self.running.client, WorkflowExecution(workflow_id=self.handle.id)
        await client.workflow_service.reset_activity(
            ResetActivityRequest(namespace=client.namespace, execution=workflow, identity="test", id=ACTIVITY)
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


async def pause_activity(client: Client, workflow_id: str) -> None:
    workflow = WorkflowExecution(workflow_id=workflow_id)
    await client.workflow_service.pause_activity(
        PauseActivityRequest(namespace=client.namespace, execution=workflow, identity="test", id=ACTIVITY)
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


async def test_a_pause_of_an_activity_lasts_until_the_execution_has_to_look_again(at_work: Running) -> None:
    at_work.channel.answers = [ChannelUnavailable("503", in_doubt=False, retry_after=timedelta(hours=1))]
    await at_work.publish(HELLO, MONTH, BYE)
    (entry,) = await at_work.enroll("ann")
    await at_work.until("EXISTS (SELECT FROM sends WHERE retry_at IS NOT NULL)")
    handle = at_work.client.get_workflow_handle(entry.workflow_id)
    await pause_activity(at_work.client, entry.workflow_id)
    (paused,) = (await handle.describe()).raw_description.pending_activities

    await at_work.owner.execute("UPDATE sends SET retry_at = now()")
    await handle.signal("poke")
    await at_work.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")

    assert paused.paused
    assert list(at_work.channel.asked.values()) == [2]


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


@pytest.mark.parametrize(
    "answer",
    [Accepted(provider_id="p-1"), Refused(reason="bounced"), ChannelUnavailable("503", in_doubt=False)],
    ids=lambda answer: type(answer).__name__,
)
async def test_an_execution_that_waits_for_a_try_that_it_has_hurried_hears_that_it_is_canceled(
    called: Called, answer: Accepted | Refused | ChannelUnavailable
) -> None:
    called.channel.answers = [answer]

    async def has_hurried() -> bool:
        return "ACTIVITY_TASK_CANCEL_REQUESTED" in await called.events()

    async def has_been_told() -> bool:
        told = "WORKFLOW_EXECUTION_CANCEL_REQUESTED"
        events = await called.events()
        return told in events and "WORKFLOW_TASK_COMPLETED" in events[events.index(told) :]

    await called.handle.signal("poke")
    await eventually(has_hurried)
    await called.cancel()
    await eventually(has_been_told)
    called.channel.answering.set()

    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(called.handle.result(), 20)
    assert isinstance(failed.value.cause, CancelledError)
    assert called.channel.calls == 1


async def test_who_is_poked_while_its_send_stands_in_a_queue_keeps_its_place(
    furnished: World,
    session_directory: Path,
    database: str,
    worker_pool: Pool[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = Slow()
    # Of several parts of a queue each would have an order of its own.
    parts = {"matching__numTaskqueueReadPartitions": 1, "matching__numTaskqueueWritePartitions": 1}
    async with temporal_with(session_directory, monkeypatch, **parts) as address:
        client = await connect(Target(address=address))
        async with worker(client, database, worker_pool, channel, limits=Limits(sends_per_channel=1, spare=0)):
            running = Running(furnished, client, worker_pool, channel)
            await running.publish(HELLO | {"next": "bye"}, BYE)
            await running.enroll("first")
            await asyncio.wait_for(channel.taken.wait(), 20)
            (ann,) = await running.enroll("ann")
            others = await running.enroll(*(f"later-{number}" for number in range(5)))

            async def all_have_asked() -> bool:
                return all([await _has_asked(client, entry.workflow_id, 1) for entry in (ann, *others)])

            await eventually(all_have_asked)
            await client.get_workflow_handle(ann.workflow_id).signal("poke")
            await eventually(lambda: _has_asked(client, ann.workflow_id, 2))
            # What she has taken back stays there until its turn would have come.
            await eventually(lambda: _has_queued(client, 7), within=20)
            channel.answering.set()
            await running.until("NOT EXISTS (SELECT FROM executions WHERE outcome IS NULL)")

    assert [message.subject_id for message in channel.messages][:2] == ["first", "ann"]
    assert len(channel.messages) == 7


async def _has_asked(client: Client, workflow_id: str, times: int) -> bool:
    """Whether an execution has asked so often that its message be sent."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return times == sum(event.HasField("activity_task_scheduled_event_attributes") for event in history.events)


async def _has_queued(client: Client, count: int) -> bool:
    """Whether so many sends wait for a place at a worker."""
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=channel_queue("log")),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_stats=True,
        )
    )
    return described.stats.approximate_backlog_count == count
