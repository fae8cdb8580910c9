"""Executions that somebody ends in Temporal, and what the ledger makes of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import RawValue

from orchestrator.application.reconciliation import Reconciliation
from orchestrator.application.watchdog import Watchdog
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.contract import ENROLLMENT_MEMO, EXECUTION_WORKFLOW, JOURNEYS_QUEUE, SUBJECT_MEMO
from orchestrator.temporal.executions import Executions
from tests.eventually import eventually
from tests.integration.journey_world import World
from tests.workflows.world import Running, Switchboard, worker
from workers.channels.channel import ChannelUnavailable

if TYPE_CHECKING:
    from asyncpg import Pool, Record

LONG = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


class Auditor:
    """Somebody who reconciles when told to, where no worker does so by itself."""

    def __init__(self, world: World, client: Client, pool: Pool[Record]) -> None:
        self.running = Running(world, client, pool, Switchboard())
        self.client = client
        self.temporal = Executions(client, eager=False, searchable=False)

    def start(self, *, lag: timedelta = timedelta(hours=1)) -> Reconciliation:
        """As a worker does when it starts."""
        return Reconciliation(self.running.transactions, self.temporal, lag=lag)

    async def wait(self, *subject_ids: str) -> Sequence[Notice]:
        """Executions that wait for long."""
        await self.running.publish(LONG, BYE)
        return await self.running.enroll(*subject_ids)

    async def has_slept(self, workflow_id: str) -> bool:
        history = await self.client.get_workflow_handle(workflow_id).fetch_history()
        return any(event.HasField("timer_started_event_attributes") for event in history.events)

    async def terminate(self, workflow_id: str) -> None:
        await self.client.get_workflow_handle(workflow_id).terminate()
        await self.is_listed(workflow_id)

    async def is_listed(self, workflow_id: str, runs: int = 1) -> None:
        """Until Temporal's list, which lags behind, has the end of so many runs."""

        async def all_there() -> bool:
            listed = [ended.workflow_id async for ended in self.temporal.ended_elsewhere(None)]
            return listed.count(workflow_id) == runs

        await eventually(all_there)

    async def ended(self) -> list[tuple[str, str]]:
        rows = await self.running.owner.fetch("SELECT outcome, reason FROM executions WHERE outcome IS NOT NULL")
        return [(row["outcome"], row["reason"]) for row in rows]


@pytest.fixture
def auditor(furnished: World, temporal: Client, worker_pool: Pool[Record]) -> Auditor:
    return Auditor(furnished, temporal, worker_pool)


async def test_what_was_ended_while_nobody_looked_is_found_by_the_first_look(auditor: Auditor) -> None:
    told = await auditor.wait("ann", "bob", "cleo")
    for entry in told[:2]:
        await auditor.terminate(entry.workflow_id)

    # A look that went no further back than its lag would find nothing.
    closed = await auditor.start(lag=timedelta(0)).run()

    assert closed == 2
    assert await auditor.ended() == [("canceled", "temporal_terminated")] * 2


async def test_a_message_that_waited_for_its_provider_when_it_was_ended_is_not_under_way_for_ever(
    auditor: Auditor, database: str, worker_pool: Pool[Record]
) -> None:
    running = auditor.running
    away = ChannelUnavailable("503", in_doubt=False, retry_after=timedelta(hours=1))
    running.channel.answers = [away]
    async with worker(auditor.client, database, worker_pool, running.channel):
        await running.publish({"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}, BYE)
        (entry,) = await running.enroll("ann")
        await running.until("EXISTS (SELECT FROM sends WHERE retry_at IS NOT NULL)")
    await auditor.terminate(entry.workflow_id)
    assert await auditor.start().run() == 1

    await running.owner.execute("UPDATE executions SET ended_at = ended_at - interval '6 minutes'")
    await running.owner.execute("UPDATE sends SET reserved_at = reserved_at - interval '6 minutes'")
    await running.owner.execute("UPDATE stuck_counts SET leased_until = now()")
    await Watchdog(running.transactions).look()

    assert await running.owner.fetchval("SELECT (state, reason)::text FROM sends") == "(failed,execution_ended)"


async def test_later_looks_find_what_has_ended_since_the_one_before(auditor: Auditor) -> None:
    told = await auditor.wait("ann", "bob")
    reconciliation = auditor.start(lag=timedelta(0))

    looks = [await reconciliation.run()]
    for entry in told:
        await auditor.terminate(entry.workflow_id)
        looks += [await reconciliation.run(), await reconciliation.run()]

    assert looks == [0, 1, 0, 1, 0]


async def test_processes_look_in_turn(auditor: Auditor) -> None:
    told = await auditor.wait("ann", "bob")
    one, other = auditor.start(), auditor.start()
    await auditor.terminate(told[0].workflow_id)

    first = await one.take_turn()
    await auditor.terminate(told[1].workflow_id)
    too_soon = [await other.take_turn(), await one.take_turn()]
    await auditor.running.owner.execute("UPDATE turns SET leased_until = now()")
    second = await other.take_turn()

    assert (first, too_soon, second) == (1, [0, 0], 1)


RUBBISH = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"\xff\x00{"))


@pytest.mark.parametrize(
    "memo",
    [
        {ENROLLMENT_MEMO: RUBBISH, SUBJECT_MEMO: RUBBISH},
        {ENROLLMENT_MEMO: RawValue(Payload(metadata={"encoding": b"binary/nobody-knows"}, data=b"x"))},
        {ENROLLMENT_MEMO: "no uuid", SUBJECT_MEMO: [1, 2, 3]},
        {ENROLLMENT_MEMO: 7, SUBJECT_MEMO: 7},
        {ENROLLMENT_MEMO: str(uuid.uuid4()), SUBJECT_MEMO: [1, 2]},
        {ENROLLMENT_MEMO: str(uuid.uuid4()), SUBJECT_MEMO: [1, "2", None]},
        {ENROLLMENT_MEMO: str(uuid.uuid4()), SUBJECT_MEMO: [2**40, -1, 2**70]},
    ],
    ids=["rubbish", "unknown_encoding", "no_uuid", "numbers", "too_few", "no_numbers", "out_of_range"],
)
async def test_what_a_stranger_has_for_a_memo_keeps_nobody_elses_row_open(
    auditor: Auditor, memo: dict[str, object]
) -> None:
    """Whoever shares the namespace may start what is called as executions are."""
    (entry,) = await auditor.wait("ann")
    stranger = await auditor.client.start_workflow(
        EXECUTION_WORKFLOW, id="stranger", task_queue=JOURNEYS_QUEUE, memo=memo
    )
    await stranger.terminate()
    await auditor.client.get_workflow_handle(entry.workflow_id).terminate()

    async def both_are_listed() -> bool:
        query = f"WorkflowType = '{EXECUTION_WORKFLOW}' AND ExecutionStatus = 'Terminated'"
        return len([found.id async for found in auditor.client.list_workflows(query)]) == 2

    await eventually(both_are_listed)

    assert await auditor.start().run() == 1
    assert await auditor.ended() == [("canceled", "temporal_terminated")]


async def test_an_execution_whose_workflow_was_reset_runs_on(
    auditor: Auditor, database: str, worker_pool: Pool[Record]
) -> None:
    async with worker(auditor.client, database, worker_pool, Switchboard()):
        (entry,) = await auditor.wait("ann")
        await eventually(lambda: auditor.has_slept(entry.workflow_id))
    workflow = auditor.client.get_workflow_handle(entry.workflow_id)
    await auditor.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=auditor.client.namespace,
            workflow_execution=WorkflowExecution(
                workflow_id=entry.workflow_id, run_id=(await workflow.describe()).run_id
            ),
            workflow_task_finish_event_id=4,
            reason="test",
            request_id=uuid.uuid4().hex,
        )
    )
    await auditor.is_listed(entry.workflow_id)
    reconciliation = auditor.start()

    after_reset = await reconciliation.run(), await auditor.ended(), (await workflow.describe()).status
    await workflow.terminate()
    await auditor.is_listed(entry.workflow_id, runs=2)
    after_the_end = await reconciliation.run(), await auditor.ended()

    assert after_reset == (0, [], WorkflowExecutionStatus.RUNNING)
    assert after_the_end == (1, [("canceled", "temporal_terminated")])
