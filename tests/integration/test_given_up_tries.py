"""A try that its workflow has given up on comes back while that sleeps: what it decides is heard of at once, and what
happens afterwards is not taken for told. Without Temporal: the tests are its workflow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import preferences, segments, sends_pauses
from orchestrator.application.calling import Calling
from orchestrator.application.changing import Changing
from orchestrator.application.sending import Receipt, Reserved, Sending
from orchestrator.domain.carrying import CarryMode
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.temporal.contract import Effect, Question
from tests.integration.journey_world import ANY_STATE, IN_VIP
from tests.integration.road import BYE, LATE, event, wait_for
from tests.integration.test_carrying import Publisher

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HELLO: dict[str, Any] = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "await"}
AWAIT = wait_for(event("reply"))
VIPS_LEAVE: dict[str, Any] = {"exitRules": [{"id": "vip", "when": IN_VIP}]}


class Follower:
    """The workflow of Ann's execution: it counts pokes, and sleeps until there is one that it has not asked about."""

    def __init__(self, road: Publisher) -> None:
        self.road = road
        self.sending = Sending(road.crowd.transactions, road.versions)
        self.calling = Calling(road.crowd.transactions, road.versions)
        self.changing = Changing(road.crowd.transactions, road.versions)
        self.pokes = self.seen = 0
        self.effect = Effect(seq=0, kind="")

    async def begin(self) -> Question:
        """Ann is let in; the try that the workflow has just begun."""
        await self.road.enroll("ann")
        question = await self.road.question()
        self.effect = Effect(seq=0, kind="run")
        return question

    async def hear(self, answer: object) -> None:
        """Of a try that began before any poke."""
        assert isinstance(answer, Effect), answer
        self.effect = answer

    async def told(self) -> None:
        """All that is to be told is told."""
        await self.road.crowd.settle()
        self.pokes += len(await self.road.poked())
        await self.road.forget_told()

    async def follow(self) -> Effect:
        """Look as long as there is a reason to; what it does, or sleeps on, then."""
        question = await self.road.question()
        while self.effect.kind == "sleep" and (self.pokes > self.seen or self.effect.until <= 0):
            asked = self.pokes
            self.effect = await self.road.advance(replace(question, seq=self.effect.seq))
            self.seen = asked
        return self.effect

    async def make_vip(self) -> None:
        vips = Segment(kind=STATIC, name="VIP", description="", predicate=None)
        await self.road.crowd.world.do(segments.create, "vip", vips)
        await self.road.forget_told()

    async def delete_vip(self) -> None:
        await self.road.crowd.world.do(segments.delete, "vip", ANY_STATE, force=True)


@pytest.fixture
async def ann(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Follower:
    made = await Publisher.make(owner, api_pool, worker_pool)
    assert isinstance(made, Publisher)
    return Follower(made)


async def test_a_send_that_such_a_try_passes_over_leaves_nobody_deaf_to_what_comes_next(ann: Follower) -> None:
    world = ann.road.crowd.world
    await ann.road.publish(HELLO, AWAIT, BYE, LATE)
    late = await ann.begin()
    await world.do(sends_pauses.pause, "welcome")
    await ann.hear(await ann.sending.reserve(late))
    assert (ann.effect.kind, ann.effect.why) == ("sleep", "park")
    await world.do(sends_pauses.resume, "welcome")
    async with world.transactions.write(world.scope.project_no) as conn:
        change = PreferenceChange(channel="*", category="*", opted_out=True)
        await preferences.update(conn, world.scope.project_no, "ann", [change])

    await ann.sending.reserve(late)  # it was held up all the time
    assert await ann.road.poked() == ["ann"], "whoever has it sleep for hours has it hear of this"
    await ann.road.crowd.happened(("ann", "reply", None))
    await ann.told()

    assert (await ann.follow()).kind == "end"
    assert await ann.road.ended() == ("completed", "finished")


async def test_a_call_that_such_a_try_carries_over_leaves_nobody_deaf_either(ann: Follower) -> None:
    call = {"id": "call", "webhook": {"url": "https://example.com/"}, "next": "bye"}
    await ann.road.publish(call, BYE, **VIPS_LEAVE)
    late = await ann.begin()
    await ann.delete_vip()
    await ann.hear(await ann.calling.reserve(late))
    assert (ann.effect.kind, ann.effect.why) == ("sleep", "park")
    await ann.road.edit(AWAIT, BYE, LATE, exitRules=None)
    await ann.road.carry(CarryMode.MAPPED, None, call="await")
    await ann.road.work()
    await ann.road.forget_told()

    await ann.calling.reserve(late)
    assert await ann.road.poked() == ["ann"]
    await ann.road.crowd.happened(("ann", "reply", None))
    await ann.told()

    assert (await ann.follow()).kind == "end"
    assert await ann.road.ended() == ("completed", "finished")
    assert await ann.road.complaints() == {}


async def test_what_such_a_try_sent_or_changed_counts_once_and_is_gone_on_from(ann: Follower) -> None:
    mark = {"id": "mark", "updateSubject": {"attributes": {"plan": "pro"}}, "next": "hello"}
    await ann.road.publish(mark, HELLO, AWAIT, BYE, LATE, **VIPS_LEAVE)
    late = await ann.begin()
    plan = await ann.changing.plan(late)
    assert not isinstance(plan, Effect)
    await ann.delete_vip()
    await ann.hear(await ann.changing.plan(late))
    assert ann.effect.why == "park"
    await ann.make_vip()

    await ann.changing.carry_out(late, plan, {"plan": "pro"}, "")
    await ann.told()
    assert ((await ann.follow()).activity, ann.effect.seq) == ("send", 1)

    late = replace(late, seq=1)
    reserved = await ann.sending.reserve(late)
    assert isinstance(reserved, Reserved)
    await ann.delete_vip()
    await ann.hear(await ann.sending.reserve(late))
    assert ann.effect.why == "park"
    await ann.make_vip()
    await ann.sending.settle(late, reserved, Receipt(state="sent"))
    await ann.road.crowd.happened(("ann", "reply", None))
    await ann.told()

    assert (await ann.follow()).kind == "end"
    assert [(step, result) for step, _, result, _ in await ann.road.visits()] == [
        ("mark", "executed"), ("hello", "executed"), ("await", "executed"), ("bye", "executed"),
    ]  # fmt: skip
    assert await ann.road.sends() == [("hello", 1, "sent")]
    assert await ann.road.complaints() == {}


async def test_a_sleep_that_somebody_else_was_told_of_is_looked_at_again(ann: Follower) -> None:
    """Of two questions about one decision the later one finds it made; it may know of a poke that came since."""
    await ann.road.publish({"id": "pause", "wait": {"duration": "1h"}, "next": "await"}, AWAIT, BYE, LATE)
    await ann.road.enroll("ann")
    question = await ann.road.question()
    await ann.road.owner.execute("UPDATE executions SET since = since - interval '2 h', wakes_at = now()")

    first = await ann.road.advance(question)
    again = await ann.road.advance(question)
    looked = await ann.road.advance(replace(question, seq=again.seq))

    assert (first.kind, first.seq, again.seq) == ("sleep", 1, 1)
    assert again.until == 0.0
    assert looked == first
