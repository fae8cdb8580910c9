"""Looking at executions: from the ledger, and from Temporal for those that run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application.executions import Executions
from orchestrator.domain.execution_status import Status
from orchestrator.domain.refusals import InvalidArgument, NotFound
from orchestrator.storage.running_call import running_call
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.statuses import Statuses
from tests.integration.journey_world import START, World

if TYPE_CHECKING:
    from uuid import UUID

    from asyncpg import Connection, Pool, Record
    from temporalio.client import Client

    from orchestrator.application.executions import Seen


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    await made.draft()
    return made


@pytest.fixture
async def ledger_alone() -> Executions:
    """Temporal is away."""
    return Executions(Statuses(await connect(Target(address="127.0.0.1:1"), lazy=True)))


async def page(world: World, executions: Executions, **arguments: Any) -> list[Seen]:
    asked = {"journey_id": "welcome", "subject_id": None, "after": None, "limit": 50, **arguments}
    seen, _ = await executions.page(world.transactions, world.scope, **asked)
    return seen


async def test_what_has_ended_is_told_from_the_ledger_in_the_words_of_those_who_watch(
    world: World, ledger_alone: Executions
) -> None:
    statuses = {
        "completed": Status.SUCCEEDED,
        "exited": Status.SUCCEEDED,
        "goal_reached": Status.SUCCEEDED,
        "expired": Status.TIMED_OUT,
        "canceled": Status.ABORTED,
        "forgotten": Status.ABORTED,
        "failed": Status.FAILED,
    }
    for outcome in statuses:
        await world.lay_execution(outcome, outcome=outcome)

    seen = await page(world, ledger_alone)

    assert {execution.execution.subject_id: execution.status for execution in seen} == statuses
    assert not any(execution.live for execution in seen)


async def test_while_temporal_is_away_the_ledger_speaks_and_says_so(world: World, ledger_alone: Executions) -> None:
    await world.lay_execution("user-1")

    (seen,) = await page(world, ledger_alone)

    assert (seen.status, seen.live) == (Status.RUNNING, False)


async def test_a_call_that_has_little_time_hears_the_ledger_and_not_that_its_time_is_up(world: World) -> None:
    await world.lay_execution("user-1")

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        executions = Executions(Statuses(await connect(Target(address=address), lazy=True)))
        async with asyncio.timeout(1) as timeout:
            with running_call(ends_at=timeout.when()):
                (seen,) = await page(world, executions)

    assert (seen.status, seen.live) == (Status.RUNNING, False)


async def test_what_runs_is_told_by_temporal(world: World, temporal: Client) -> None:
    executions = Executions(Statuses(temporal))
    await world.lay_execution("running")
    await world.lay_execution("terminated")
    await world.lay_execution("not-started")
    ids = {seen.execution.subject_id: seen.execution.workflow_id for seen in await page(world, executions)}
    for subject_id in ("running", "terminated"):
        await temporal.start_workflow("JourneyExecution", id=ids[subject_id], task_queue="nobody-listens")
    await temporal.get_workflow_handle(ids["terminated"]).terminate()

    seen = {seen.execution.subject_id: (seen.status, seen.live) for seen in await page(world, executions)}

    assert seen == {
        "running": (Status.RUNNING, True),
        "terminated": (Status.ABORTED, True),
        "not-started": (Status.RUNNING, False),
    }


async def test_the_ledger_has_the_last_word_about_what_ended_meanwhile(world: World, temporal: Client) -> None:
    execution_id = await world.lay_execution("user-1")

    class EndingMeanwhile(Statuses):
        async def of(self, workflow_ids: Any, *, time_left: float | None = None) -> dict[str, Status]:
            if workflow_ids:
                await world.owner.execute("UPDATE executions SET outcome = 'expired', ended_at = now()")
            return dict.fromkeys(workflow_ids, Status.SUCCEEDED)

    whole = await Executions(EndingMeanwhile(temporal)).get(world.transactions, world.scope, str(execution_id))

    assert (whole.seen.status, whole.seen.live) == (Status.TIMED_OUT, False)


async def test_pages_go_from_the_newest_and_show_each_execution_once(world: World, ledger_alone: Executions) -> None:
    laid = [
        await world.lay_execution(f"user-{number}", started_at=START + timedelta(minutes=number // 2))
        for number in range(7)
    ]
    await world.lay_execution("user-0", journey_id="other")
    listed: list[UUID] = []
    after = None
    while True:
        seen, after = await ledger_alone.page(
            world.transactions, world.scope, journey_id="welcome", subject_id=None, after=after, limit=2
        )
        listed += [execution.execution.execution_id for execution in seen]
        if after is None:
            break

    newest_first = sorted(range(7), key=lambda number: (-(number // 2), laid[number]))
    assert listed == [laid[number] for number in newest_first]


async def test_executions_of_a_subject_are_found_in_all_its_journeys_or_in_one(
    world: World, ledger_alone: Executions
) -> None:
    mine = await world.lay_execution("user-1", started_at=START)
    other = await world.lay_execution("user-1", journey_id="other", started_at=START + timedelta(hours=1))
    await world.lay_execution("user-2")

    everywhere = await page(world, ledger_alone, journey_id=None, subject_id="user-1")
    here = await page(world, ledger_alone, subject_id="user-1")
    nobody = await page(world, ledger_alone, journey_id=None, subject_id="unheard-of")

    assert [seen.execution.execution_id for seen in everywhere] == [other, mine]
    assert [seen.execution.execution_id for seen in here] == [mine]
    assert nobody == []


async def test_a_list_needs_a_journey_or_a_subject_that_there_is(world: World, ledger_alone: Executions) -> None:
    with pytest.raises(InvalidArgument):
        await page(world, ledger_alone, journey_id=None)
    with pytest.raises(NotFound) as refused:
        await page(world, ledger_alone, journey_id="never")
    assert refused.value.reason == "JOURNEY_NOT_FOUND"
    assert await page(world, ledger_alone) == []


async def test_an_execution_shows_what_it_passed_and_sent_in_order(world: World, ledger_alone: Executions) -> None:
    visits = (
        (1, "hello", "send", "executed"),
        (2, "pause", "wait", "executed"),
        (2, "check", "branch", "executed"),
        (2, "end", "exit", "executed"),
    )
    execution_id = await world.lay_execution("user-1", step_id="end", outcome="completed", visits=visits)
    await world.lay_send("user-1", execution_id, seq=0)
    await world.lay_execution("user-2", visits=((1, "hello", "send", "skipped"),))

    whole = await ledger_alone.get(world.transactions, world.scope, str(execution_id))

    assert whole.seen.execution.subject_id == "user-1"
    assert [(visit.seq, visit.step_id, visit.step_kind, visit.result.value) for visit in whole.visits] == list(visits)
    assert [(send.seq, send.step_id, send.state, send.provider_id) for send in whole.sends] == [
        (0, "hello", "sent", "p-1")
    ]


@pytest.mark.parametrize("execution_id", ["nonsense", "01a1fbcf-d09a-73f8-b7b5-3ed193185d58"])
async def test_an_execution_that_is_not_there_is_not_found(
    world: World, ledger_alone: Executions, execution_id: str
) -> None:
    with pytest.raises(NotFound) as refused:
        await ledger_alone.get(world.transactions, world.scope, execution_id)

    assert refused.value.reason == "EXECUTION_NOT_FOUND"


async def test_another_projects_executions_are_not_found(
    world: World, ledger_alone: Executions, owner: Connection[Record], api_pool: Pool[Record]
) -> None:
    execution_id = await world.lay_execution("user-1")
    other = await World.make(owner, api_pool, "other")

    with pytest.raises(NotFound):
        await ledger_alone.get(other.transactions, other.scope, str(execution_id))
    assert await page(other, ledger_alone, journey_id=None, subject_id="user-1") == []
