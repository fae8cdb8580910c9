"""Ending executions from outside: each at its next look, once, and nobody who was not meant."""

from __future__ import annotations

import asyncio
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from orchestrator.application import canceling, lifecycle, merging
from orchestrator.application.canceling import Asked, Canceled, Cancellations
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.transactions import Transactions
from orchestrator.domain.cancellation import Filter
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound
from orchestrator.storage import clock, outbox
from tests.eventually import eventually
from tests.integration.journey_world import ANY_STATE, START, World
from tests.integration.lost_commits import fail_first_commit
from tests.integration.road import Road, when

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

ALL = Filter(everybody=True)
PAUSE = {"id": "pause", "wait": {"duration": "30d"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    for journey_id in ("welcome", "other"):
        await made.draft(journey_id)
    return made


async def cancel(world: World, execution_id: UUID | str, reason: str = "") -> Canceled:
    return await world.do(canceling.cancel, str(execution_id), reason)


async def cancel_many(world: World, wanted: Filter, at_most: int = 100, reason: str = "") -> Asked:
    return await world.do(canceling.cancel_many, "welcome", wanted, reason, at_most)


async def marked(world: World) -> dict[UUID, str]:
    """The reasons of those that are told to end."""
    rows = await world.owner.fetch("SELECT execution_id, cancel_reason FROM executions WHERE cancel_reason IS NOT NULL")
    return {row["execution_id"]: row["cancel_reason"] for row in rows}


async def poked(world: World) -> list[UUID]:
    return [row[0] for row in await world.owner.fetch("SELECT execution_id FROM outbox ORDER BY execution_id")]


async def begin(cancellations: Cancellations) -> None:
    """Until the next step is a page: those who may be letting somebody in are known, and there are none any more."""
    assert await cancellations.step()


async def work(cancellations: Cancellations) -> None:
    while await cancellations.step():
        pass


async def said(world: World) -> list[tuple[str, str, str]]:
    rows = await world.owner.fetch(
        "SELECT action, actor, metadata::text FROM audit_log WHERE action LIKE 'execution%' ORDER BY audit_no"
    )
    return [(row["action"], row["actor"], row["metadata"]) for row in rows]


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    return await Road.make(owner, api_pool, worker_pool)


async def test_an_execution_ends_in_the_middle_of_its_wait_with_the_reason_given(road: Road) -> None:
    await road.publish(PAUSE, BYE)
    await road.enroll("ann")
    (execution_id,) = (row[0] for row in await road.owner.fetch("SELECT execution_id FROM executions"))

    canceled = await cancel(road.crowd.world, execution_id, "wrong-price")
    effect = await road.ask()

    assert (canceled.execution.canceling, [entry.kind for entry in canceled.told]) == ("wrong-price", ["poke"])
    assert (effect.kind, effect.outcome) == ("end", "canceled")
    assert await road.ended() == ("canceled", "wrong-price")


async def test_a_parked_execution_can_be_canceled(road: Road) -> None:
    in_vip = {"arms": [{"id": "vip", "when": when(kind="in_cohort", cohortId="vip")["when"], "next": "bye"}]}
    await road.publish(
        {**PAUSE, "wait": {"duration": "1s"}, "next": "ask"},
        {"id": "ask", "branch": {**in_vip, "otherwise": "bye"}},
        BYE,
    )
    await road.enroll("ann")
    await road.owner.execute("UPDATE executions SET parked = 'cohort_not_found'")
    (execution_id,) = (row[0] for row in await road.owner.fetch("SELECT execution_id FROM executions"))

    asked = await cancel_many(road.crowd.world, Filter(parked=True))

    assert asked.count.total == 1
    assert await marked(road.crowd.world) == {}
    await work(Cancellations(road.crowd.transactions))
    assert await marked(road.crowd.world) == {execution_id: "canceled"}


async def test_canceling_twice_changes_nothing_and_is_told_once(world: World) -> None:
    execution_id = await world.lay_execution("ann")
    over = await world.lay_execution("bob", outcome="completed")

    await cancel(world, execution_id, "first")
    again = await cancel(world, execution_id, "second")
    late = await cancel(world, over)

    assert (again.execution.canceling, again.told) == ("first", ())
    assert (late.execution.outcome and late.execution.outcome.value, late.told) == ("completed", ())
    assert await poked(world) == [execution_id]
    assert [action for action, _, _ in await said(world)] == ["execution_canceled"]


@pytest.mark.parametrize("unknown", ["nonsense", "0197aaaa-0000-7000-8000-000000000000"])
async def test_an_execution_that_there_is_not_is_not_found(world: World, unknown: str) -> None:
    with pytest.raises(NotFound, match="there is no execution"):
        await cancel(world, unknown)


async def test_an_empty_filter_is_refused_and_means_nobody(world: World) -> None:
    await world.lay_execution("ann")

    for wanted in (Filter(), Filter(everybody=True, parked=True)):
        with pytest.raises(InvalidArgument):
            await world.look(canceling.count_many, "welcome", wanted)
        with pytest.raises(InvalidArgument):
            await cancel_many(world, wanted)

    assert (await marked(world), await poked(world)) == ({}, [])


async def test_a_filter_takes_those_who_meet_all_of_it_and_counts_them_by_step(
    world: World, worker_pool: Pool[Record]
) -> None:
    meant = [await world.lay_execution(f"s{n}", step_id="pause", version=2) for n in range(3)]
    meant.append(await world.lay_execution("x", step_id="check", version=2))
    await world.lay_execution("other-version", step_id="pause")
    await world.lay_execution("other-step", step_id="hello", version=2)
    await world.lay_execution("too-new", step_id="pause", version=2, started_at=START + timedelta(hours=1))
    await world.lay_execution("too-old", step_id="pause", version=2, started_at=START - timedelta(hours=1))
    await world.lay_execution("over", step_id="pause", version=2, outcome="completed")
    await world.lay_execution("elsewhere", step_id="pause", version=2, journey_id="other")
    wanted = Filter(
        version=2,
        step_ids=("pause", "check"),
        started_after=START,
        started_before=START + timedelta(minutes=1),
    )

    counted = await world.look(canceling.count_many, "welcome", wanted)
    asked = await cancel_many(world, wanted, at_most=4, reason="wrong-price")
    await work(Cancellations(Transactions(worker_pool), page=2))

    assert (counted.total, counted.by_step) == (4, {"pause": 3, "check": 1})
    assert await marked(world) == dict.fromkeys(meant, "wrong-price")
    assert await poked(world) == sorted(meant)
    done = await world.look(canceling.get, asked.cancellation.id)
    assert (done.matched, done.canceled, done.ended_at is not None, done.filter) == (4, 4, True, wanted)
    requested, ended = await said(world)
    assert requested[:2] == ("executions_cancel_requested", "key:test")
    assert ended[:2] == ("executions_canceled", "runtime")
    assert '"stepIds": "pause check"' in requested[2]
    assert '"canceled": 4' in ended[2]


async def test_more_than_were_counted_are_not_canceled(world: World) -> None:
    for n in range(3):
        await world.lay_execution(f"s{n}")

    with pytest.raises(FailedPrecondition) as refused:
        await cancel_many(world, ALL, at_most=2)

    assert (refused.value.reason, refused.value.metadata["count"]) == ("MORE_EXECUTIONS_MATCH", "3")
    assert await world.owner.fetchval("SELECT count(*) FROM cancellations") == 0


async def test_those_of_named_subjects_are_told_at_once_and_their_ids_are_not_kept(world: World) -> None:
    annas = await world.lay_execution("anna")
    await world.lay_execution("anna", journey_id="other")
    await world.lay_execution("bert")

    with pytest.raises(InvalidArgument) as refused:
        await cancel_many(world, Filter(subject_ids=("anna", "nobody")), at_most=1)
    asked = await cancel_many(world, Filter(subject_ids=("anna", "anna")), at_most=1)

    assert [(fault.path, fault.reason) for fault in refused.value.faults] == [
        ("filter.subjectIds[1]", "SUBJECT_NOT_FOUND")
    ]
    assert (await marked(world), [entry.execution_id for entry in asked.told]) == ({annas: "canceled"}, [annas])
    assert asked.cancellation.ended_at is not None
    kept = await world.owner.fetchval("SELECT string_agg(c::text, '') FROM cancellations AS c")
    log = await world.owner.fetchval("SELECT string_agg(a::text, '') FROM audit_log AS a")
    assert "anna" not in kept
    assert "anna" not in log


async def test_who_starts_after_the_request_is_not_meant(world: World, worker_pool: Pool[Record]) -> None:
    old = await world.lay_execution("old")
    asked = await cancel_many(world, ALL)
    await world.lay_execution("new", started_at=asked.cancellation.requested_at + timedelta(microseconds=1))

    await work(Cancellations(Transactions(worker_pool)))

    assert await marked(world) == {old: "canceled"}


@pytest.mark.parametrize("others", [0, 1])
async def test_whoever_was_being_let_in_when_it_was_asked_for_is_meant(
    world: World, database: str, worker_pool: Pool[Record], others: int
) -> None:
    for number in range(others):
        await world.lay_execution(f"old-{number}")
    cancellations = Cancellations(Transactions(worker_pool))
    conn = await asyncpg.connect(database)
    async with conn.transaction():
        # As whoever lets somebody in: the subject's row is held, then the clock is read.
        other = copy(world)
        other.owner = conn
        admitted = await other.lay_execution("late", started_at=await clock.now(conn))
        asked = await cancel_many(world, ALL)
        await work(cancellations)
        before = await marked(world)
    await conn.close()
    await work(cancellations)

    assert (asked.count.total, before) == (others, {})
    assert admitted in await marked(world)
    assert len(await marked(world)) == others + 1
    ended = await world.do(canceling.get, asked.cancellation.id)
    assert (ended.canceled, ended.ended_at is None) == (others + 1, False)


async def test_a_barrier_of_another_cluster_holds_nobody_up_after_a_restore(
    world: World, worker_pool: Pool[Record]
) -> None:
    ann = await world.lay_execution("ann")
    cancellations = Cancellations(Transactions(worker_pool))
    await cancel_many(world, ALL)
    await begin(cancellations)
    await world.owner.execute("UPDATE cancellations SET barrier = 1::bigint << 60")

    await work(cancellations)

    assert await marked(world) == {ann: "canceled"}


async def test_a_page_that_is_cut_off_is_begun_again_and_nobody_is_told_twice(
    world: World, worker_pool: Pool[Record]
) -> None:
    ids = sorted([await world.lay_execution(f"s{n}") for n in range(7)])
    cancellations = Cancellations(Transactions(worker_pool), page=3)
    await cancel_many(world, ALL)
    await begin(cancellations)
    await cancellations.step()
    await fail_first_commit(world.owner, "outbox")

    with pytest.raises(asyncpg.RaiseError):
        await cancellations.step()
    await work(cancellations)

    assert await poked(world) == ids


async def test_processes_share_the_work_and_tell_nobody_twice(world: World, worker_pool: Pool[Record]) -> None:
    ids = sorted([await world.lay_execution(f"s{n}") for n in range(20)])
    await cancel_many(world, Filter(version=1))
    await cancel_many(world, Filter(step_ids=("pause",)))
    transactions = Transactions(worker_pool)

    async def unfinished() -> bool:
        async with transactions.read(None) as conn:
            return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM cancellations WHERE ended_at IS NULL)"))

    async def share() -> None:
        cancellations = Cancellations(transactions, page=3)
        while await cancellations.step() or await unfinished():
            pass

    await asyncio.gather(*(share() for _ in range(4)))

    assert await poked(world) == ids
    assert await world.owner.fetchval("SELECT sum(canceled) FROM cancellations") == 20


async def test_a_merge_between_two_pages_hides_nobody(world: World, worker_pool: Pool[Record]) -> None:
    ids = sorted([await world.lay_execution(f"s{n}", started_at=START + timedelta(hours=n)) for n in range(6)])
    cancellations = Cancellations(Transactions(worker_pool), page=2)
    await cancel_many(world, ALL)
    await begin(cancellations)
    await cancellations.step()

    for survivor, merged in (("s5", "s0"), ("s4", "s1"), ("s3", "s2")):
        await world.do(merging.merge, b"0" * 32, RuleBook(), merged, into=survivor)
    await work(cancellations)

    assert sorted(await marked(world)) == ids


async def test_no_page_is_added_while_much_waits_to_be_told(world: World, worker_pool: Pool[Record]) -> None:
    await world.lay_execution("ann")
    waiting = await world.lay_execution("bob", journey_id="other")
    await cancel_many(world, ALL)
    key = await world.subject("bob")
    now = await clock.now(world.owner)
    await outbox.insert(world.owner, "poke", [(key, waiting, "disp:bob")], now - timedelta(minutes=1))

    await begin(Cancellations(Transactions(worker_pool)))

    assert not await Cancellations(Transactions(worker_pool), backlog=1).step()
    assert await Cancellations(Transactions(worker_pool), backlog=2).step()


async def test_another_projects_executions_and_cancellations_are_not_there(
    world: World, owner: Connection[Record], api_pool: Pool[Record]
) -> None:
    execution_id = await world.lay_execution("ann")
    asked = await cancel_many(world, ALL)
    stranger = await World.make(owner, api_pool, "stranger")

    with pytest.raises(NotFound):
        await cancel(stranger, execution_id)
    with pytest.raises(NotFound):
        await stranger.look(canceling.get, asked.cancellation.id)


async def test_archiving_afterwards_does_not_change_the_reason(road: Road) -> None:
    await road.publish(PAUSE, BYE)
    await road.enroll("ann")
    (execution_id,) = (row[0] for row in await road.owner.fetch("SELECT execution_id FROM executions"))
    await cancel(road.crowd.world, execution_id, "wrong-price")
    await road.crowd.world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)
    await road.ask()

    assert await road.ended() == ("canceled", "wrong-price")


async def test_whoever_is_merged_at_that_moment_is_canceled_as_the_survivor(
    world: World, owner: Connection[Record], worker_pool: Pool[Record]
) -> None:
    one, many = [await world.lay_execution(who) for who in ("anna", "bert")]
    await world.lay_execution("survivor", outcome="completed")
    await cancel_many(world, Filter(step_ids=("pause",)), at_most=2)
    await begin(Cancellations(Transactions(worker_pool)))

    async def both_wait() -> bool:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(await owner.fetchval(waiting) == 2)

    async with world.transactions.write(world.scope.project_no) as conn:
        for who in ("anna", "bert"):
            await merging.merge(conn, world.scope, b"0" * 32, RuleBook(), who, into="survivor")
        waiting = [
            asyncio.create_task(cancel(world, one, "by-name")),
            asyncio.create_task(Cancellations(Transactions(worker_pool)).step()),
        ]
        await eventually(both_wait)
    await asyncio.gather(*waiting)

    assert set(await marked(world)) == {one, many}
