"""Forgetting somebody, with workers and a real Temporal: nothing is left of them anywhere, and no number changes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio import workflow
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from orchestrator.application import forgetting
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.domain.erasure import Erasure, Phase
from orchestrator.storage.erasure_ledger import ErasureLedger, Forgotten, read
from orchestrator.temporal.contract import EXECUTION_WORKFLOW
from orchestrator.temporal.erasures import RunRemoval, erasure_workflow_id
from tests.workflows.test_effects import knows
from tests.workflows.test_journey_execution import BYE, HELLO
from tests.workflows.world import Running, Switchboard, worker
from workers.channels.channel import Accepted, Message, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from asyncpg import Pool, Record

    from tests.integration.journey_world import World

SECRET = b"s" * 48
PAUSE = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}


async def forget(running: Running, subject_id: str) -> Erasure:
    return await running.world.do(forgetting.forget, SECRET, subject_id)


async def receipt(running: Running, erasure: Erasure) -> Erasure:
    """Once all is done. Temporal deletes when it comes to it."""
    done = "EXISTS (SELECT FROM erasures WHERE erasure_id = $1 AND phase = 'done')"
    await running.until(done, erasure.erasure_id, within=60)
    return await running.world.look(forgetting.get, erasure.erasure_id)


async def workflows(client: Client, kind: str = EXECUTION_WORKFLOW) -> set[str]:
    return {run.id async for run in client.list_workflows(f"WorkflowType = '{kind}'")}


async def test_a_namespace_that_turns_out_to_lack_search_attributes_lists_nobody(bare_namespace: Client) -> None:
    removal = RunRemoval(bare_namespace, searchable=True)

    assert await removal.of_subject("default", ["ann"]) == set()


async def test_whoever_is_forgotten_on_the_way_is_gone_from_temporal_and_others_travel_on(at_work: Running) -> None:
    await at_work.publish(HELLO, PAUSE, BYE)
    for who in ("ann", "older", "bob"):
        await knows(at_work, who, plan="pro")
    told = await at_work.enroll("ann", "older", "bob")
    await at_work.until("(SELECT count(*) FROM executions WHERE step_id = 'pause') = 3")
    anns, olders, bobs = (entry.workflow_id for entry in told)
    await at_work.world.do(merge, SECRET, RuleBook(), "older", into="ann")

    erasure = await forget(at_work, "older")
    done = await receipt(at_work, erasure)

    assert list(done.phases) == [phase for phase in Phase if phase is not Phase.DONE]
    assert all(passed.ended_at is not None for passed in done.phases.values())
    assert done.phases[Phase.EXECUTIONS].counts == {"ended": 2}
    assert done.phases[Phase.RUNS].counts == {"executions": 2}
    assert await workflows(at_work.client) & {anns, olders, bobs} == {bobs}
    rows = await at_work.owner.fetch(
        "SELECT outcome, reason, workflow_id = 'deleted:' || execution_id AS unnamed FROM executions ORDER BY 3, 1"
    )
    assert [tuple(row) for row in rows] == [
        (None, None, False),
        *[("forgotten", "subject_forgotten", True)] * 2,
    ]
    # Steps and sends are counted as before, and the erasure's own history knows nobody.
    assert await at_work.owner.fetchval("SELECT count(*) FROM sends WHERE state = 'sent'") == 3
    own = at_work.client.get_workflow_handle(erasure_workflow_id(at_work.world.scope.project_no, erasure.erasure_id))
    await own.result()
    history = (await own.fetch_history()).to_json()
    assert not any(word in history for word in ('"ann', "older", "disp:"))


async def test_a_send_under_way_ends_and_none_begins_after_it(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record]
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Switchboard):
        async def send(self, message: Message) -> Accepted | Refused:
            reached.set()
            await go_on.wait()
            return await super().send(message)

    channel = Slow()
    async with worker(temporal, database, worker_pool, channel):
        running = Running(furnished, temporal, worker_pool, channel)
        await running.publish(HELLO, {"id": "pause", "send": {"communicationId": "welcome"}, "next": "bye"}, BYE)
        await running.enroll("ann")
        await reached.wait()

        erasure = await forget(running, "ann")
        await running.until("EXISTS (SELECT FROM executions WHERE outcome = 'forgotten')")
        go_on.set()
        await receipt(running, erasure)

        assert len(channel.messages) == 1
        row = await running.owner.fetchrow("SELECT state, provider_id FROM sends")
        assert row is not None
        assert row["state"] in ("sent", "unknown")
        assert row["provider_id"] is None


@workflow.defn
class Chain:
    """Goes on in a new run, so often, and then waits."""

    @workflow.run
    async def run(self, rest: int) -> None:
        if rest:
            workflow.continue_as_new(rest - 1)
        await workflow.wait_condition(lambda: False)


async def test_every_run_of_a_chain_goes_and_of_an_id_that_was_used_before(temporal: Client) -> None:
    async with Worker(temporal, task_queue="chain", workflows=[Chain], workflow_runner=UnsandboxedWorkflowRunner()):
        for number in range(2):
            handle = await temporal.start_workflow(
                Chain.run, 3, id="disp:j__v1__ann__e", task_queue="chain",
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            )  # fmt: skip
            other = await temporal.start_workflow(Chain.run, 0, id=f"disp:j__v1__bob__{number}", task_queue="chain")
            await _listed(temporal, handle.id, 4 * (number + 1))
            if number == 0:
                await temporal.get_workflow_handle(handle.id).terminate()
        runs = {run.run_id async for run in temporal.list_workflows(f"WorkflowId = '{handle.id}'")}
        assert len(runs) == 8

        removal, gone = RunRemoval(temporal, searchable=True, patience=timedelta(seconds=40)), set[str]()
        async with asyncio.timeout(90):
            while not gone:
                gone = await removal.remove([handle.id])

        assert gone == {handle.id}
        for run_id in runs:
            assert not await removal._exists(handle.id, run_id)
        assert await removal.remove([handle.id, "never-was"]) == {handle.id, "never-was"}
        assert await removal._exists(other.id, other.result_run_id or "")


async def _listed(client: Client, workflow_id: str, count: int) -> None:
    async with asyncio.timeout(20):
        while (await client.count_workflows(f"WorkflowId = '{workflow_id}'")).count < count:
            await asyncio.sleep(0.05)


async def test_it_is_written_down_outside_before_rows_are_erased(
    furnished: World, temporal: Client, database: str, worker_pool: Pool[Record], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    channel = Switchboard()
    async with worker(temporal, database, worker_pool, channel, ledger=ErasureLedger(ledger)):
        running = Running(furnished, temporal, worker_pool, channel)
        await running.owner.execute("ALTER TABLE erasures ADD CONSTRAINT not_yet CHECK (phase <> 'rows')")
        await knows(running, "ann", plan="pro")
        erasure = await forget(running, "ann")
        await running.until("(SELECT phase FROM erasures) = 'runs'")
        lines = read([ledger])
        await running.owner.execute("ALTER TABLE erasures DROP CONSTRAINT not_yet")
        await receipt(running, erasure)

    (line,) = lines
    assert isinstance(line, Forgotten)
    assert (line.erasure_id, line.subject_ref, len(line.hashes)) == (erasure.erasure_id, erasure.subject_ref, 1)
    assert "ann" not in "".join(path.read_text() for path in ledger.iterdir())
