"""Sends of a journey pause themselves when too many come to nothing: once, until somebody resumes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from asyncpg import RaiseError

from orchestrator.application import lifecycle, publishing, sends_pauses
from orchestrator.application.auto_pauses import AutoPauses
from orchestrator.application.deliveries import Deliveries
from orchestrator.application.ingest import Ingest
from orchestrator.application.journeys import Changes, update
from orchestrator.application.sending import Receipt, Reserved, Sending, idempotency_key
from orchestrator.domain.auto_pause import Tally
from orchestrator.domain.delivery import Kind, Report
from orchestrator.domain.refusals import NotFound
from orchestrator.storage.sends_pauses import Pause
from orchestrator.temporal.contract import Effect, Question
from tests.integration.journey_world import ANY_STATE
from tests.integration.lost_commits import fail_first_commit
from tests.integration.road import BYE, Road
from tests.integration.test_gates import questions, send
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SENT, FAILED = Receipt(state="sent"), Receipt(state="failed", reason="refused")


class Guarded(Road):
    """A journey of one send that pauses itself."""

    async def open(self, count: int, channel: str = "webhook", **rule: Any) -> None:
        settings = {"url": "https://example.com"} if channel == "webhook" else {}
        await self.crowd.world.add_communication("offer", "marketing", channel=channel, settings=settings)
        await self.publish(send(communicationId="offer"), BYE, autoPause=rule)
        self.sending = Sending(self.crowd.transactions, self.versions)
        await self.come(count)

    async def come(self, count: int) -> None:
        before = await self.owner.fetchval("SELECT count(*) FROM executions")
        await self.enroll(*(f"s{number}" for number in range(before, before + count)))

    async def carry_out(self, question: Question, receipt: Receipt) -> Reserved | Effect:
        reserved = await self.sending.reserve(question)
        if isinstance(reserved, Reserved):
            await self.sending.settle(question, reserved, receipt)
        return reserved

    async def pauses(self) -> list[Pause]:
        world = self.crowd.world
        async with world.transactions.read(world.scope.project_no) as conn:
            return await sends_pauses.paused(conn, world.scope, after=None, limit=10)

    async def report(self, kind: Kind, reserved: Reserved) -> None:
        world = self.crowd.world
        deliveries = Deliveries(world.transactions, Ingest(world.transactions), self.versions, b"s" * 32)
        report = Report(
            kind=kind,
            key=idempotency_key(reserved.execution_id, reserved.seq),
            provider_id="",
            report_id="",
            occurred_at=None,
            link="",
        )
        await deliveries.take(world.scope, [report, report])


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Guarded:
    made = await Guarded.make(owner, api_pool, worker_pool)
    assert isinstance(made, Guarded)
    return made


async def test_the_failure_that_is_one_too_many_pauses_them_and_whoever_comes_is_held(road: Guarded) -> None:
    await road.open(11, failureRate=0.5, minimum=10)
    *first, last = await questions(road)
    for number, question in enumerate(first[:9]):
        await road.carry_out(question, FAILED if number < 5 else SENT)
    before = await road.pauses()
    await road.carry_out(first[9], FAILED)

    held = await road.carry_out(last, SENT)

    (pause,) = await road.pauses()
    assert before == []
    assert (pause.journey_id, pause.reason) == ("welcome", "failure_rate")
    assert pause.tally is not None
    assert (pause.tally.sends, pause.tally.failed) == (10, 6)
    assert isinstance(held, Effect)
    assert await road.owner.fetchval("SELECT count(*) FROM executions WHERE parked = 'sends_paused'") == 1
    said = await road.owner.fetchrow("SELECT actor, metadata FROM audit_log WHERE action = 'sends_auto_paused'")
    assert said is not None
    assert said["actor"] == "runtime"


async def test_failures_at_once_pause_them_once_and_none_is_overlooked(road: Guarded) -> None:
    await road.open(12, failureRate=0, minimum=12)

    await asyncio.gather(*(road.carry_out(question, FAILED) for question in await questions(road)))

    (pause,) = await road.pauses()
    assert pause.tally is not None
    assert pause.tally.failed == 12
    assert (await road.crowd.world.actions()).count("sends_auto_paused") == 1


async def test_who_resumes_them_is_not_overruled_by_what_was_before(road: Guarded) -> None:
    await road.open(4, failureRate=0.2, minimum=2)
    first, second, third, fourth = await questions(road)
    await road.carry_out(first, FAILED)
    reserved = await road.sending.reserve(third)
    assert isinstance(reserved, Reserved)
    await road.carry_out(second, FAILED)
    assert len(await road.pauses()) == 1

    await road.crowd.world.do(sends_pauses.resume, "welcome")
    await road.sending.settle(third, reserved, FAILED)
    after_one = await road.pauses()
    await road.carry_out(fourth, FAILED)

    assert after_one == []
    assert len(await road.pauses()) == 1


async def test_a_look_that_waited_for_whoever_resumes_counts_again(road: Guarded) -> None:
    await road.open(2, failureRate=0, minimum=1)
    question, _ = await questions(road)
    await road.carry_out(question, FAILED)
    world = road.crowd.world

    async with world.transactions.write(world.scope.project_no) as resuming:
        await sends_pauses.resume(resuming, world.scope, "welcome")
        look = asyncio.create_task(AutoPauses(road.crowd.transactions, road.versions).look(1, ["welcome"]))
        await waits_for_a_lock(look, road.owner)
    await look

    assert await road.pauses() == []


async def test_complaints_and_bounces_count_once_each_and_only_of_what_is_guarded(road: Guarded) -> None:
    await road.open(4, complaintRate=0.4, minimum=4)
    made = [await road.carry_out(question, SENT) for question in await questions(road)]
    first, second, third, _ = made
    assert isinstance(first, Reserved)
    assert isinstance(second, Reserved)
    assert isinstance(third, Reserved)

    await road.report(Kind.COMPLAINED, first)
    await road.report(Kind.COMPLAINED, first)
    await road.report(Kind.BOUNCED, third)
    before = await road.pauses()
    await road.report(Kind.COMPLAINED, second)

    (pause,) = await road.pauses()
    assert before == []
    assert pause.reason == "complaint_rate"
    assert pause.tally is not None
    assert (pause.tally.sends, pause.tally.failed, pause.tally.complained) == (4, 1, 2)


async def test_what_the_newest_version_says_is_what_is_too_much(road: Guarded) -> None:
    await road.open(3, failureRate=0, minimum=1)
    world = road.crowd.world
    await world.do(update, "welcome", Changes(definition={"autoPause": None}), ANY_STATE)
    await world.do(publishing.publish, "welcome", ANY_STATE)

    for question in await questions(road):
        await road.carry_out(question, FAILED)

    assert await road.pauses() == []


async def test_journeys_without_it_pay_nothing_and_what_is_past_no_longer_counts(road: Guarded) -> None:
    await road.publish(send(), BYE, journey_id="plain")
    await road.enroll("ann", journey_id="plain")
    sending = Sending(road.crowd.transactions, road.versions)
    (question,) = await questions(road)
    reserved = await sending.reserve(question)
    assert isinstance(reserved, Reserved)
    await sending.settle(question, reserved, FAILED)
    assert await road.owner.fetchval("SELECT count(*) FROM send_tallies") == 0
    await road.owner.execute("DELETE FROM executions")

    await road.open(2, failureRate=0.5, minimum=2, window="10m")
    first, second = await questions(road)
    await road.carry_out(first, FAILED)
    await road.owner.execute("UPDATE send_tallies SET minute = minute - interval '11 minutes'")
    await road.carry_out(second, FAILED)

    assert await road.pauses() == []


async def test_a_journey_that_is_deleted_leaves_no_pause_that_nobody_can_end(road: Guarded) -> None:
    world = road.crowd.world
    await road.open(2, failureRate=0, minimum=1)
    await road.carry_out((await questions(road))[0], FAILED)
    assert len(await road.pauses()) == 1

    await world.do(lifecycle.delete, "welcome", ANY_STATE, force=True)

    assert await road.pauses() == []
    assert await road.owner.fetchval("SELECT count(*) FROM send_tallies") == 0
    # One that somebody set while another deleted.
    await road.owner.execute("INSERT INTO sends_pauses VALUES ($1, 'welcome', now())", road.crowd.project_no)
    await world.do(sends_pauses.resume, "welcome")
    with pytest.raises(NotFound):
        await world.do(sends_pauses.resume, "welcome")


async def test_a_failure_counts_though_what_comes_next_could_not_be_decided(road: Guarded) -> None:
    await road.open(2, failureRate=0, minimum=2)
    await fail_first_commit(road.owner, "visits")
    first, second = await questions(road)

    with pytest.raises(RaiseError):
        await road.carry_out(first, FAILED)
    await road.carry_out(first, FAILED)
    await road.carry_out(second, FAILED)

    assert [pause.tally for pause in await road.pauses()] == [Tally(sends=2, failed=2)]
