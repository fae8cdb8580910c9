"""A send in two transactions, and what may happen between them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import communications, lifecycle, publishing, segments, subjects
from orchestrator.application.advance import Advance
from orchestrator.application.communications import Communications
from orchestrator.application.enrollment import enroll
from orchestrator.application.sending import Receipt, Reserved, Sending, TooEarly
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.channels import Rules
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.storage import doctor
from orchestrator.storage.doctor_checks import CHECKS
from orchestrator.storage.sends import SENT
from orchestrator.temporal.contract import Effect, Question
from tests.integration.journey_world import ANY_STATE, IN_VIP, World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "again"}
AGAIN = {"id": "again", "send": {"communicationId": "welcome"}, "next": "bye"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}


class Sender:
    """An execution that stands on a send, and whoever makes it."""

    def __init__(self, world: World, pool: Pool[Record]) -> None:
        self.world = world
        self.transactions = Transactions(pool)
        self.sending = Sending(self.transactions, Versions())
        self.advance = Advance(self.transactions, Versions())
        self.question = Question(project_no=0, bucket=0, subject_no=0, execution_id="", seq=0, now=0.0)

    async def stand(self, *steps: dict[str, Any], **definition: Any) -> None:
        await self.world.draft("welcome", {"steps": list(steps), **definition})
        await self.world.do(publishing.publish, "welcome", ANY_STATE)
        async with self.transactions.write(None) as conn:
            (entry,) = (await enroll(conn, self.world.scope, Versions(), "welcome", ["ann"])).told
        self.question = Question(
            project_no=entry.key.project_no,
            bucket=entry.key.bucket,
            subject_no=entry.key.subject_no,
            execution_id=str(entry.execution_id),
            seq=0,
            now=0.0,
        )

    async def reserve(self) -> Reserved:
        reserved = await self.sending.reserve(self.question)
        assert isinstance(reserved, Reserved)
        return reserved

    async def delete_vip(self) -> None:
        await self.world.do(segments.delete, "vip", ANY_STATE, force=True)

    async def make_vip(self) -> None:
        await self.world.do(segments.create, "vip", Segment(kind=STATIC, name="VIP", description="", predicate=None))

    async def row(self) -> tuple[str | None, bool]:
        """What it is parked for, and whether a time is written down at which it wakes."""
        row = await self.world.owner.fetchrow("SELECT parked, wakes_at IS NOT NULL FROM executions")
        assert row is not None
        return row[0], row[1]

    async def end(self) -> None:
        await self.world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)

    async def ledgers(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        visits = await self.world.owner.fetch("SELECT step_id, result, reason FROM visits ORDER BY seq, place")
        sends = await self.world.owner.fetch("SELECT step_id, state, reason FROM sends ORDER BY seq")
        return [tuple(row) for row in visits], [tuple(row) for row in sends]

    async def complaints(self) -> dict[str, int]:
        """What doctor would say in ten minutes."""
        async with self.transactions.read(None) as conn:
            later = await conn.fetchval("SELECT now()") + timedelta(minutes=10)
            found = {check.name: (await doctor.check(conn, check, later)).total for check in CHECKS}
        return {name: total for name, total in found.items() if total and not name.endswith("_late")}


@pytest.fixture
async def sender(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Sender:
    world = await World.make(owner, api_pool)
    await world.furnish()
    return Sender(world, worker_pool)


async def test_a_send_that_is_withdrawn_because_its_journey_ends_was_skipped(sender: Sender) -> None:
    await sender.stand(HELLO, AGAIN, BYE)
    # The provider was away, certainly, and told to come back later.
    await sender.sending.note(await sender.reserve(), timedelta(hours=1), in_doubt=False)
    await sender.end()

    effect = await sender.sending.reserve(sender.question)

    assert isinstance(effect, Effect)
    assert (effect.kind, effect.outcome) == ("end", "canceled")
    assert await sender.ledgers() == (
        [("hello", "skipped", "withdrawn")],
        [("hello", "failed", "withdrawn")],
    )
    assert await sender.complaints() == {}


@pytest.mark.parametrize("in_doubt", [False, True])
async def test_a_provider_that_asked_for_time_is_not_called_before_it_is_over(sender: Sender, in_doubt: bool) -> None:
    await sender.stand(HELLO, AGAIN, BYE)
    hour, reserved = timedelta(hours=1), await sender.reserve()
    await sender.sending.note(reserved, hour, in_doubt=in_doubt)

    with pytest.raises(TooEarly) as early:
        await sender.reserve()
    later = replace(sender.question, now=(reserved.now + 2 * hour).timestamp())
    again = await sender.sending.reserve(later)

    assert timedelta(minutes=55) < early.value.rest <= hour
    assert isinstance(again, Reserved)
    assert (again.attempt, again.in_doubt) == (2, in_doubt)


async def test_a_send_in_doubt_that_is_withdrawn_may_have_arrived(sender: Sender) -> None:
    await sender.stand(HELLO, AGAIN, BYE)
    await sender.reserve()
    await sender.end()

    effect = await sender.sending.reserve(sender.question)

    assert isinstance(effect, Effect)
    assert (effect.kind, effect.outcome) == ("end", "canceled")
    assert await sender.ledgers() == (
        [("hello", "executed", "unknown")],
        [("hello", "unknown", "withdrawn")],
    )
    assert await sender.complaints() == {}


ONCE = {**HELLO, "next": "bye"}
VIPS_LEAVE = [{"id": "vip", "when": IN_VIP}]


async def test_who_is_parked_between_two_tries_still_gets_the_message(sender: Sender) -> None:
    await sender.stand(ONCE, BYE, exitRules=VIPS_LEAVE)
    await sender.reserve()
    await sender.delete_vip()

    held = await sender.sending.reserve(sender.question)

    assert isinstance(held, Effect)
    assert (held.kind, held.why, held.seq) == ("sleep", "park", 0)
    assert await sender.ledgers() == ([], [("hello", "dispatching", None)])
    assert await sender.row() == ("segment_not_found", True)
    assert await sender.complaints() == {}, "nothing that anybody could do about a channel"
    assert (await sender.advance(sender.question)).why == "park"
    await sender.make_vip()
    assert (await sender.advance(sender.question)).kind == "run"
    assert await sender.row() == (None, False), "it waits for nothing any more"
    again = await sender.reserve()
    effect = await sender.sending.settle(sender.question, again, Receipt(state=SENT))
    assert (again.attempt, again.in_doubt, effect.outcome) == (2, True, "completed")
    assert (await sender.ledgers())[1] == [("hello", "sent", None)]


@pytest.mark.parametrize("in_doubt", [False, True])
async def test_who_ends_while_a_send_is_held_leaves_it_settled(sender: Sender, in_doubt: bool) -> None:
    await sender.stand(ONCE, BYE, exitRules=VIPS_LEAVE)
    reserved = await sender.reserve()
    if not in_doubt:
        await sender.sending.note(reserved, None, in_doubt=False)
    await sender.delete_vip()
    await sender.sending.reserve(sender.question)
    await sender.end()

    effect = await sender.advance(sender.question)

    assert (effect.kind, effect.outcome) == ("end", "canceled")
    visit, send = (("executed", "unknown"), "unknown") if in_doubt else (("skipped", "withdrawn"), "failed")
    assert await sender.ledgers() == ([("hello", *visit)], [("hello", send, "withdrawn")])
    assert await sender.complaints() == {}


async def test_a_try_that_was_given_up_on_and_arrives_while_the_send_is_held_has_the_workflow_ask(
    sender: Sender,
) -> None:
    await sender.stand(ONCE, BYE, exitRules=VIPS_LEAVE)
    reserved = await sender.reserve()
    await sender.delete_vip()
    await sender.sending.reserve(sender.question)
    await sender.world.owner.execute("DELETE FROM outbox")

    await sender.sending.settle(sender.question, reserved, Receipt(state=SENT))

    assert await sender.world.owner.fetchval("SELECT array_agg(kind) FROM outbox") == ["poke"]
    assert (await sender.advance(sender.question)).outcome == "completed"
    assert await sender.ledgers() == (
        [("hello", "executed", None), ("bye", "executed", None)],
        [("hello", "sent", None)],
    )


async def test_who_is_parked_before_a_send_waits_for_nothing_once_that_is_mended(sender: Sender) -> None:
    await sender.stand(ONCE, BYE, exitRules=VIPS_LEAVE)
    await sender.delete_vip()
    assert (await sender.advance(sender.question)).why == "park"
    assert await sender.row() == ("segment_not_found", True)
    assert await sender.complaints() == {}
    await sender.make_vip()

    assert (await sender.advance(sender.question)).kind == "run"

    assert await sender.row() == (None, False)


async def test_a_send_is_settled_when_it_is_settled_though_its_execution_has_ended(sender: Sender) -> None:
    await sender.stand(HELLO, AGAIN, BYE)
    reserved = await sender.reserve()
    await sender.world.owner.execute(
        "UPDATE executions SET seq = 1, outcome = 'canceled', reason = 'temporal_terminated', ended_at = now(), "
        """effect = effect || '{"seq": 1, "kind": "end", "outcome": "canceled"}'"""
    )
    accepted_at = await sender.world.owner.fetchval("SELECT clock_timestamp()")

    effect = await sender.sending.settle(sender.question, reserved, Receipt(state=SENT, provider_id="p-1"))

    assert effect.outcome == "canceled"
    assert await sender.world.owner.fetchval("SELECT settled_at > $1 FROM sends WHERE state = 'sent'", accepted_at)


async def reword(sender: Sender, **changes: Any) -> None:
    await sender.world.do(Communications(Rules()).update, "welcome", changes, ANY_STATE)


@pytest.mark.parametrize(("live", "revision", "body"), [(True, 2, "Newer"), (False, 1, "There")])
async def test_a_send_takes_the_newest_text_only_where_the_version_follows_it(
    sender: Sender, live: bool, revision: int, body: str
) -> None:
    await sender.stand(HELLO, AGAIN, BYE, followLiveCommunications=live)
    await reword(sender, body="Newer")

    reserved = await sender.reserve()

    assert (reserved.content_revision, reserved.content["body"]) == (revision, body)
    assert await sender.world.owner.fetchval("SELECT content_revision FROM sends") == revision


async def test_a_repeat_says_what_the_first_try_said_though_there_is_a_newer_text(sender: Sender) -> None:
    await sender.stand(HELLO, AGAIN, BYE, followLiveCommunications=True)
    await sender.sending.note(await sender.reserve(), None, in_doubt=False)
    await reword(sender, body="Newer")

    again = await sender.reserve()

    assert (again.attempt, again.content_revision, again.content["body"]) == (2, 1, "There")


async def test_the_newest_text_is_that_of_the_channel_the_version_was_published_with(sender: Sender) -> None:
    await sender.stand(HELLO, AGAIN, BYE, followLiveCommunications=True)
    await reword(sender, body="Newer")
    await reword(sender, channel="webhook", settings={"url": "https://example.com/hook"}, body="Elsewhere")
    await sender.world.do(communications.delete, "welcome", ANY_STATE)

    reserved = await sender.reserve()

    assert (reserved.channel, reserved.content["body"]) == ("log", "Newer")


async def test_a_send_that_is_settled_after_its_subject_was_deleted_is_nobodys(sender: Sender) -> None:
    await sender.stand(HELLO, AGAIN, BYE)
    reserved = await sender.reserve()
    await sender.world.owner.execute(
        "UPDATE executions SET outcome = 'canceled', reason = 'temporal_terminated', ended_at = now()"
    )
    await sender.world.do(subjects.delete, b"s" * 32, "ann", ANY_STATE)

    effect = await sender.sending.settle(sender.question, reserved, Receipt(state=SENT, provider_id="to-ann"))

    assert effect.outcome == "forgotten"
    assert tuple(await sender.world.owner.fetchrow("SELECT state, provider_id FROM sends") or ()) == ("sent", None)
