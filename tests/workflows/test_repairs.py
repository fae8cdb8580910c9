"""Postgres and Temporal differ about what is under way: what the doctor would do, does, and never sends again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from orchestrator.application.repairs import Repair, Repairs
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.erasures import RunRemoval
from tests.eventually import eventually
from tests.integration.journey_world import World
from tests.workflows.world import Running, Switchboard, worker

if TYPE_CHECKING:
    from asyncpg import Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"}
LONG = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


class Clinic:
    """Somebody who is sent a message and waits for a month, and the doctor."""

    def __init__(self, running: Running, database: str, pool: Pool[Record]) -> None:
        self.running = running
        self.client = running.client
        self.repairs = Repairs(running.transactions, running.client, on_its_way=timedelta(0))
        self._database = database
        self._pool = pool

    @asynccontextmanager
    async def workers(self) -> AsyncIterator[None]:
        async with worker(self.client, self._database, self._pool, self.running.channel):
            yield

    async def asleep(self, subject_id: str = "ann") -> Notice:
        """One who waits, of whom nobody works any more."""
        await self.running.publish(HELLO, LONG, BYE)
        async with self.workers():
            (entry,) = await self.running.enroll(subject_id)
            await self.running.until("EXISTS (SELECT FROM executions WHERE effect ->> 'kind' = 'sleep')")
            await eventually(lambda: self.is_listed(entry))
        return entry

    async def is_listed(self, entry: Notice, status: str = "Running") -> bool:
        query = f"WorkflowId = '{entry.workflow_id}' AND ExecutionStatus = '{status}'"
        return [found.id async for found in self.client.list_workflows(query)] == [entry.workflow_id]

    async def plan(self) -> list[tuple[Repair, str]]:
        return [(difference.repair, difference.which) for difference in await self.repairs.plan()]

    async def repair(self) -> list[tuple[Repair, bool]]:
        return [(difference.repair, done) async for difference, done in self.repairs.carry_out()]

    async def audited(self) -> list[tuple[int, str, str]]:
        rows = await self.running.owner.fetch(
            "SELECT project_no, action, resource_id FROM audit_log WHERE actor = 'doctor' ORDER BY audit_no"
        )
        return [tuple(row) for row in rows]


@pytest.fixture
def clinic(furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]) -> Clinic:
    running = Running(furnished, temporal, worker_pool, Switchboard())
    return Clinic(running, database, worker_pool)


async def test_where_both_are_of_one_mind_there_is_nothing_to_repair(clinic: Clinic) -> None:
    await clinic.asleep()

    assert await clinic.plan() == []
    assert await clinic.repair() == []


async def test_an_execution_that_temporal_has_lost_goes_on_where_it_stood_and_sends_nothing_twice(
    clinic: Clinic,
) -> None:
    entry = await clinic.asleep()
    removal = RunRemoval(clinic.client, searchable=False)
    await eventually(lambda: _is_removed(removal, entry))

    planned = await clinic.plan()
    untouched = await clinic.running.owner.fetchval("SELECT count(*) FROM outbox")
    repaired = await clinic.repair()
    again = await clinic.repair()
    async with clinic.workers():
        await eventually(lambda: clinic.is_listed(entry), within=20)
        await clinic.running.owner.execute("UPDATE executions SET cancel_reason = 'enough', cancel_asked_at = now()")
        await clinic.client.get_workflow_handle(entry.workflow_id).signal("poke")
        await clinic.running.until("EXISTS (SELECT FROM executions WHERE outcome = 'canceled')")

    assert planned == [(Repair.START, str(entry.execution_id))]
    assert untouched == 0
    assert repaired == [(Repair.START, True)]
    assert again == []
    assert len(clinic.running.channel.messages) == 1
    assert await clinic.audited() == [(1, "execution_restarted", "welcome")]


async def _is_removed(removal: RunRemoval, entry: Notice) -> bool:
    return await removal.remove([entry.workflow_id]) == {entry.workflow_id}


async def test_a_send_that_may_have_gone_out_is_not_made_again_by_who_is_started_again(clinic: Clinic) -> None:
    """Its worker died between the provider's answer and the commit, and then Temporal was lost."""
    entry = await clinic.asleep()
    removal = RunRemoval(clinic.client, searchable=False)
    await eventually(lambda: _is_removed(removal, entry))
    await clinic.running.owner.execute(
        """
        DELETE FROM visits;
        UPDATE sends SET state = 'dispatching', settled_at = NULL, in_doubt = true,
                         reserved_at = now() - interval '2 days';
        UPDATE executions
           SET seq = s.seq, step_id = 'hello', wakes_at = NULL,
               effect = jsonb_build_object('seq', s.seq, 'kind', 'run', 'step_id', 'hello', 'activity', 'send',
                                           'queue', 'channel-log', 'timeout', 30)
          FROM sends AS s
        """
    )

    await clinic.repair()
    async with clinic.workers():
        await clinic.running.until("EXISTS (SELECT FROM sends WHERE state = 'unknown')")
        await clinic.running.until("EXISTS (SELECT FROM executions WHERE step_id = 'pause')")

    assert len(clinic.running.channel.messages) == 1


async def test_an_execution_that_was_ended_in_temporal_is_closed(clinic: Clinic) -> None:
    entry = await clinic.asleep()
    await clinic.client.get_workflow_handle(entry.workflow_id).terminate()
    await eventually(lambda: clinic.is_listed(entry, "Terminated"))

    planned, repaired = await clinic.plan(), await clinic.repair()

    assert planned == [(Repair.CLOSE, str(entry.execution_id))]
    assert repaired == [(Repair.CLOSE, True)]
    ended = await clinic.running.owner.fetch("SELECT outcome, reason FROM executions")
    assert [tuple(row) for row in ended] == [("canceled", "temporal_terminated")]
    assert await clinic.audited() == [(1, "execution_closed", "welcome")]


async def test_an_execution_that_has_ended_by_itself_since_the_backup_is_closed_as_it_ended(clinic: Clinic) -> None:
    await clinic.running.publish({**HELLO, "next": "bye"}, BYE)
    async with clinic.workers():
        (entry,) = await clinic.running.enroll("ann")
        await clinic.running.until("EXISTS (SELECT FROM executions WHERE outcome = 'completed')")
        await eventually(lambda: clinic.is_listed(entry, "Completed"))
    # As an older backup has it.
    await clinic.running.owner.execute(
        "UPDATE executions SET outcome = NULL, reason = NULL, ended_at = NULL; DELETE FROM visits; DELETE FROM sends"
    )

    planned, repaired = await clinic.plan(), await clinic.repair()

    assert planned == [(Repair.CLOSE, str(entry.execution_id))]
    assert repaired == [(Repair.CLOSE, True)]
    ended = await clinic.running.owner.fetch("SELECT outcome, reason FROM executions")
    assert [tuple(row) for row in ended] == [("completed", "temporal_completed")]
    assert len(clinic.running.channel.messages) == 1


async def test_a_workflow_whose_execution_has_ended_is_told_to_look_and_ends(clinic: Clinic) -> None:
    entry = await clinic.asleep()
    await clinic.running.owner.execute(
        """
        UPDATE executions SET outcome = 'canceled', reason = 'why', ended_at = now() - interval '1 hour', seq = seq + 1,
                              effect = jsonb_build_object('seq', seq + 1, 'kind', 'end', 'outcome', 'canceled')
        """
    )

    planned, repaired = await clinic.plan(), await clinic.repair()
    async with clinic.workers():
        outcome = await clinic.client.get_workflow_handle(entry.workflow_id).result()

    assert planned == [(Repair.POKE, str(entry.execution_id))]
    assert repaired == [(Repair.POKE, True)]
    assert outcome == "canceled"
    assert await clinic.audited() == [(1, "workflow_poked", str(entry.execution_id))]


async def test_a_workflow_that_the_database_does_not_know_ends_too(clinic: Clinic) -> None:
    entry = await clinic.asleep()
    await clinic.running.owner.execute("DELETE FROM executions; DELETE FROM enrollments")

    repaired = await clinic.repair()
    async with clinic.workers():
        outcome = await clinic.client.get_workflow_handle(entry.workflow_id).result()

    assert repaired == [(Repair.POKE, True)]
    assert outcome == "forgotten"


async def test_a_workflow_of_another_database_looks_and_goes_on(clinic: Clinic) -> None:
    """Nobody of ours ends what is another's: its own workers answer."""
    entry = await clinic.asleep()
    stranger = await clinic.client.start_workflow("JourneyExecution", id="disp:elsewhere", task_queue="of-another")

    async def is_found() -> bool:
        return (Repair.POKE, "disp:elsewhere") in await clinic.plan()

    await eventually(is_found)
    repaired = await clinic.repair()

    assert repaired == [(Repair.POKE, True)]
    assert (await stranger.describe()).status is WorkflowExecutionStatus.RUNNING
    assert await clinic.is_listed(entry)
    assert await clinic.audited() == [(0, "workflow_poked", "unknown")]
