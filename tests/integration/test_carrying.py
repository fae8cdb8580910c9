"""Executions under way go over to a version that is published: each once, as what was shown, and nobody is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orchestrator.application import (
    canceling,
    carry_previews,
    carrying,
    lifecycle,
    merging,
    publishing,
    segments,
    stats,
)
from orchestrator.application.carry_previews import Preview
from orchestrator.application.carrying import Carries, Progress
from orchestrator.application.enrollment import enroll
from orchestrator.application.journeys import Changes, update
from orchestrator.application.publishing import Again, Confirmed, Pins, Publication
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sending import Receipt, Reserved, Sending
from orchestrator.application.versions import Versions
from orchestrator.domain.carrying import CarryMode, Landing
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound
from orchestrator.storage import doctor
from orchestrator.storage.doctor_checks import CHECKS
from orchestrator.temporal.contract import Effect, Question
from tests.integration.journey_world import ANY_STATE, START
from tests.integration.lost_commits import fail_first_commit
from tests.integration.road import BYE, LATE, MONTH, Road, event, wait_for

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SECOND = {**MONTH, "wait": {"duration": "1s"}}
HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"}
AFTER = {"id": "after", "send": {"communicationId": "welcome"}, "next": "bye"}
COMPATIBLE = CarryMode.COMPATIBLE


class Publisher(Road):
    """A road that is rebuilt under those who travel on it."""

    async def edit(self, *steps: Mapping[str, Any], journey_id: str = "welcome", **definition: Any) -> None:
        changes = Changes(definition={"steps": list(steps), **definition})
        await self.crowd.world.do(update, journey_id, changes, ANY_STATE)

    async def preview(self, mode: CarryMode = COMPATIBLE, again: Again | None = None, **mapping: str) -> Preview:
        pairs = tuple(mapping.items())
        return await self.crowd.world.look(carry_previews.preview, self.versions, "welcome", mode, pairs, again)

    async def carry(self, mode: CarryMode = COMPATIBLE, again: Again | None = None, **mapping: str) -> Publication:
        """Publish with what a preview gave. Those who are told are as good as told."""
        token = (await self.preview(mode, again, **mapping)).token
        return await self.confirm(Confirmed(mode=mode, pairs=tuple(mapping.items()), token=token), again)

    async def confirm(self, carry: Confirmed, again: Again | None = None) -> Publication:
        return await self.crowd.world.do(publishing.publish, "welcome", ANY_STATE, again=again, carry=carry)

    async def work(self, page: int = 1000) -> None:
        carries = Carries(self.crowd.transactions, self.versions, page=page)
        while await self._is_carrying():
            if not await carries.step():
                await asyncio.sleep(0.01)

    async def _is_carrying(self) -> bool:
        async with self.crowd.transactions.read(None) as conn:
            return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM carries WHERE ended_at IS NULL)"))

    async def rebuild(self, *steps: Mapping[str, Any], mode: CarryMode = COMPATIBLE, **mapping: str) -> None:
        """Publish these steps, and tell everybody who can go over to do so."""
        await self.edit(*steps)
        await self.carry(mode, None, **mapping)
        await self.work()

    async def progress(self, version: int) -> Progress:
        return await self.crowd.world.look(carrying.get, "welcome", version)

    async def visits(self, subject_id: str = "ann") -> list[tuple[str, int, str, str | None]]:
        """(step, version, result, reason), in order."""
        rows = await self.owner.fetch(
            "SELECT step_id, version, result, reason FROM visits JOIN subjects USING (project_no, bucket, subject_no)"
            " WHERE subject_id = $1 ORDER BY seq, place",
            subject_id,
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def standing(self, subject_id: str = "ann") -> tuple[int, str, int, int | None]:
        """(version, step, seq, the version it goes over to)."""
        row = await self.owner.fetchrow(
            "SELECT version, step_id, seq, carry_version FROM executions JOIN subjects"
            " USING (project_no, bucket, subject_no) WHERE subject_id = $1",
            subject_id,
        )
        assert row is not None
        return row[0], row[1], row[2], row[3]

    async def question(self, subject_id: str = "ann") -> Question:
        row = await self.owner.fetchrow(
            "SELECT e.* FROM executions AS e JOIN subjects USING (project_no, bucket, subject_no)"
            " WHERE subject_id = $1",
            subject_id,
        )
        assert row is not None
        return Question(
            project_no=row["project_no"], bucket=row["bucket"], subject_no=row["subject_no"],
            execution_id=str(row["execution_id"]), seq=row["seq"], now=0.0,
        )  # fmt: skip

    async def sends(self) -> list[tuple[str, int, str]]:
        rows = await self.owner.fetch("SELECT step_id, version, state FROM sends ORDER BY seq")
        return [(row[0], row[1], row[2]) for row in rows]

    async def complaints(self) -> dict[str, int]:
        """What doctor would say in ten minutes of the ledgers."""
        async with self.crowd.transactions.read(None) as conn:
            later = await conn.fetchval("SELECT now()") + timedelta(minutes=10)
            found = {check.name: (await doctor.check(conn, check, later)).total for check in CHECKS}
        told = (
            "sends_without_visit", "visits_without_send", "sends_unlike_visits", "calls_unlike_visits",
            "visits_without_call", "executions_deaf", "versions_gone",
        )  # fmt: skip
        return {name: found[name] for name in told if found[name]}


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Publisher:
    made = await Publisher.make(owner, api_pool, worker_pool)
    assert isinstance(made, Publisher)
    return made


async def test_who_waits_goes_over_and_what_was_waited_counts(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann", "bob")
    await road.owner.execute("UPDATE executions SET since = since - interval '2 s'")
    await road.edit(SECOND, {**BYE, "exit": {"reason": "second"}})

    publication = await road.carry()
    before = await road.standing()
    await road.work()
    told = await road.poked()
    effect = await road.ask()

    assert publication.carry is not None
    assert publication.carry.matched == 2
    assert before == (1, "pause", 0, None)
    assert told == ["ann", "bob"]
    assert (effect.kind, effect.outcome, effect.seq) == ("end", "completed", 1)
    assert await road.ended() == ("completed", "second")
    assert await road.visits() == [("pause", 2, "executed", None), ("bye", 2, "executed", None)]
    assert await road.standing("bob") == (1, "pause", 0, 2)
    progress = await road.progress(2)
    assert (progress.carry.told, progress.pending, progress.carry.ended_at is not None) == (2, 1, True)
    world = road.crowd.world
    funnel = await stats.funnel(world.transactions, world.scope, "welcome")
    travelled = [(v.entry_version, v.version, v.active, dict(v.by_outcome)) for v in funnel.versions]
    assert travelled == [(1, 2, 0, {"completed": 1}), (1, 1, 1, {})]
    by_first = await road.crowd.world.look(stats.step_stats, "welcome", 1)
    assert [(step.step_id, step.executed, step.active) for step in by_first] == [("pause", 0, 1), ("bye", 0, 0)]
    assert (await road.crowd.world.actions())[-2:] == ["journey_published", "executions_carried"]


async def test_a_longer_wait_is_waited_on_from_when_it_began_under_a_decision_of_its_own(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann")
    since = await road.owner.fetchval("SELECT since FROM executions")
    await road.rebuild({**MONTH, "wait": {"duration": "60d"}}, BYE)
    old = await road.question()

    effect = await road.ask()
    again = await road.advance(old)

    assert (effect.kind, effect.seq) == ("sleep", 1)
    assert effect.until == (since + timedelta(days=60)).timestamp()
    assert again == replace(effect, until=0.0), "a question from before going over is told of it, and to look"
    assert (await road.standing(), await road.visits()) == ((2, "pause", 1, None), [])
    assert await road.owner.fetchval("SELECT since = $1 FROM executions", since)


async def test_who_cannot_go_on_stays_and_is_counted_by_reason(road: Publisher) -> None:
    await road.publish(MONTH, wait_for(event("paid")), BYE, LATE)
    await road.enroll("ann", "bob", "cid", "dan")
    for subject_id, step in (("bob", "await"), ("cid", "gone"), ("dan", "await")):
        await _move(road, subject_id, step if step == "await" else "late")
    await road.rebuild(MONTH, {"id": "await", "wait": {"duration": "1d"}, "next": "bye"}, BYE)

    progress = await road.progress(2)

    assert progress.carry.matched == 4
    assert (progress.carry.told, dict(progress.carry.stayed)) == (1, {"kind_changed": 2, "step_gone": 1})
    assert await road.poked() == ["ann"]
    assert await road.standing("bob") == (1, "await", 0, None)


async def _move(road: Publisher, subject_id: str, step_id: str) -> None:
    await road.owner.execute(
        "UPDATE executions AS e SET step_id = $2 FROM subjects AS s WHERE s.subject_id = $1 AND"
        " (s.project_no, s.bucket, s.subject_no) = (e.project_no, e.bucket, e.subject_no)",
        subject_id,
        step_id,
    )


async def test_a_send_under_way_is_finished_by_the_old_version_and_not_made_again(road: Publisher) -> None:
    await road.publish({**HELLO, "next": "bye"}, BYE)
    await road.enroll("ann")
    sending, question = Sending(road.crowd.transactions, road.versions), await road.question()
    first = await sending.reserve(question)
    assert isinstance(first, Reserved)
    await sending.note(first, None, in_doubt=False)
    await road.rebuild(HELLO, MONTH, BYE)

    second = await sending.reserve(question)
    assert isinstance(second, Reserved)
    pending = (await road.progress(2)).pending
    effect = await sending.settle(question, second, Receipt(state="sent", provider_id="p-1"))

    assert (second.version, second.idempotency_key, second.attempt) == (1, first.idempotency_key, 2)
    assert pending == 1
    assert (effect.kind, effect.step_id, effect.seq) == ("sleep", "pause", 1)
    assert await road.visits() == [("hello", 1, "executed", None)]
    assert await road.sends() == [("hello", 1, "sent")]
    assert (await road.standing())[0] == 2
    assert await road.complaints() == {}


async def test_a_send_that_was_not_begun_is_made_by_the_new_version(road: Publisher) -> None:
    await road.publish({**HELLO, "next": "bye"}, BYE)
    await road.enroll("ann")
    sending, old = Sending(road.crowd.transactions, road.versions), await road.question()
    await road.rebuild({**HELLO, "next": "bye"}, BYE)

    effect = await sending.reserve(old)
    reserved = await sending.reserve(await road.question())

    assert isinstance(effect, Effect)
    assert (effect.kind, effect.seq) == ("run", 1)
    assert isinstance(reserved, Reserved)
    assert (reserved.version, reserved.seq) == (2, 1)


async def test_a_held_send_goes_over_unless_it_may_have_gone_out(road: Publisher) -> None:
    rule = {"id": "vip", "when": {"kind": "in_cohort", "cohortId": "vip"}}
    await road.publish({**HELLO, "next": "bye"}, BYE, exitRules=[rule])
    await road.enroll("ann", "bob")
    sending = Sending(road.crowd.transactions, road.versions)
    begun = {who: await sending.reserve(await road.question(who)) for who in ("ann", "bob")}
    assert isinstance(begun["ann"], Reserved)
    await sending.note(begun["ann"], None, in_doubt=False)
    await road.crowd.world.do(segments.delete, "vip", ANY_STATE, force=True)
    for who in ("ann", "bob"):  # a segment is gone: both are held
        await road.ask(who)
    await road.edit({**HELLO, "next": "bye"}, BYE, exitRules=None)
    await road.carry()
    await road.work()

    anns, bobs = await road.ask("ann"), await road.ask("bob")

    assert (anns.kind, anns.step_id) == ("run", "hello")
    assert await road.visits("ann") == [("hello", 1, "skipped", "withdrawn")]
    assert (await road.standing("ann"))[0] == 2
    assert bobs.kind == "sleep"
    assert await road.standing("bob") == (1, "hello", 0, 2)
    assert await road.complaints() == {}


async def test_no_message_is_sent_twice_where_a_send_comes_again(road: Publisher) -> None:
    await road.publish(HELLO, MONTH, BYE)
    await road.enroll("ann")
    await _send(road)
    await road.edit({**SECOND, "next": "hello"}, {**HELLO, "next": "after"}, AFTER, BYE)

    preview = await road.preview()
    await road.carry()
    await road.work()
    await road.owner.execute("UPDATE executions SET since = since - interval '2 s'")
    effect = await road.ask()

    warned = [(fault.path, fault.reason) for fault in preview.warnings]
    assert warned == [("steps[1]", "SEND_ALREADY_PASSED")]
    assert (effect.kind, effect.step_id) == ("run", "after")
    assert (await road.visits())[1:] == [("pause", 2, "executed", None), ("hello", 2, "skipped", "already_sent")]
    assert await road.sends() == [("hello", 1, "sent")]


async def test_what_was_sent_is_remembered_by_what_it_has_become_over_several_versions(road: Publisher) -> None:
    await road.publish(HELLO, MONTH, BYE)
    await road.enroll("ann")
    await _send(road)
    greet = {**HELLO, "id": "greet"}
    await road.rebuild(greet, MONTH, BYE, mode=CarryMode.MAPPED, hello="greet")
    await road.ask()
    await road.rebuild(
        {**HELLO, "id": "salute", "next": "after"}, AFTER, BYE,
        mode=CarryMode.MAPPED, greet="salute", pause="salute",
    )  # fmt: skip

    effect = await road.ask()

    assert (effect.kind, effect.step_id) == ("run", "after")
    assert (await road.visits())[-1] == ("salute", 3, "skipped", "already_sent")


async def _send(road: Publisher, subject_id: str = "ann") -> None:
    sending, question = Sending(road.crowd.transactions, road.versions), await road.question(subject_id)
    reserved = await sending.reserve(question)
    assert isinstance(reserved, Reserved)
    await sending.settle(question, reserved, Receipt(state="sent", provider_id="p-1"))


async def test_who_is_mapped_onto_another_kind_comes_to_it_anew(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann")
    await road.owner.execute("UPDATE executions SET since = since - interval '29 days'")
    await road.rebuild(wait_for(event("paid"), "1d"), BYE, LATE, mode=CarryMode.MAPPED, pause="await")

    effect = await road.ask()

    assert (effect.kind, effect.step_id) == ("sleep", "await")
    assert await road.owner.fetchval("SELECT since > now() - interval '1 minute' FROM executions")
    assert await road.awaits() == ["event:paid"]


async def test_limits_of_the_new_version_hold_from_then_on(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann", "bob")
    await road.owner.execute("UPDATE executions SET started_at = started_at - interval '32 days'")
    await road.edit(MONTH, BYE, maxDurationDays=31)
    preview = await road.preview()
    await road.carry()
    await road.work()

    await road.ask()

    (place,) = preview.places
    assert (place.crowd.count, place.expired_at_once, place.over_at_once) == (2, 2, 0)
    assert place.fate == Landing(step_id="pause", anew=False)
    assert await road.ended() == ("expired", "max_duration")


async def test_the_goal_of_the_entry_is_kept(road: Publisher) -> None:
    await road.publish(MONTH, BYE, goal="bought")
    await road.enroll("ann")
    await road.crowd.world.do(update, "welcome", Changes(goal_event="other"), ANY_STATE)
    await road.edit(MONTH, BYE, exitOnGoal=True)
    await road.carry()
    await road.work()

    await road.ask()

    assert await road.awaits() == ["event:bought"]


async def test_a_preview_confirms_one_version_and_one_mapping(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann")
    await road.edit(SECOND, BYE)
    token = (await road.preview()).token
    confirmed = Confirmed(mode=COMPATIBLE, pairs=(), token=token)
    await road.edit({**MONTH, "wait": {"duration": "2s"}}, BYE)

    with pytest.raises(FailedPrecondition) as changed:
        await road.confirm(confirmed)
    with pytest.raises(InvalidArgument) as missing:
        await road.confirm(Confirmed(mode=COMPATIBLE, pairs=(), token=""))
    with pytest.raises(FailedPrecondition) as mapped:
        await road.confirm(Confirmed(mode=CarryMode.MAPPED, pairs=(("pause", "bye"),), token=token))
    with pytest.raises(InvalidArgument) as wrong:
        await road.preview(CarryMode.MAPPED, pause="nowhere", typo="bye")

    assert (changed.value.reason, mapped.value.reason) == ("CARRY_TOKEN_STALE", "CARRY_TOKEN_STALE")
    assert [(fault.path, fault.reason) for fault in missing.value.faults] == [("token", "CARRY_TOKEN_INVALID")]
    assert [fault.path for fault in wrong.value.faults] == ["stepMapping[0].toStepId", "stepMapping[1].fromStepId"]
    assert await road.owner.fetchval("SELECT count(*) FROM carries") == 0
    assert await road.owner.fetchval("SELECT latest_version FROM journeys") == 1


async def test_without_a_draft_those_on_older_versions_go_over_to_the_newest_made_anew(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann")
    await road.edit(SECOND, BYE)
    await road.crowd.world.do(publishing.publish, "welcome", ANY_STATE)

    with pytest.raises(FailedPrecondition, match="nothing to publish"):
        await road.crowd.world.do(publishing.publish, "welcome", ANY_STATE)
    publication = await road.carry()
    await road.work()

    assert (publication.version, await road.poked()) == (3, ["ann"])


async def test_going_back_carries_over_as_well(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.edit(SECOND, BYE)
    await road.crowd.world.do(publishing.publish, "welcome", ANY_STATE)
    await road.enroll("ann")

    await road.carry(again=Again(number=1, pins=Pins.KEPT))
    await road.work()
    effect = await road.ask()

    assert (effect.kind, await road.standing()) == ("sleep", (3, "pause", 1, None))


async def test_who_is_let_in_by_a_transaction_from_before_goes_over_too(
    road: Publisher, worker_pool: Pool[Record]
) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann")
    world, carries = road.crowd.world, Carries(road.crowd.transactions, road.versions)
    async with world.transactions.write(world.scope.project_no) as conn:
        await enroll(conn, world.scope, Versions(), "welcome", ["bob"])
        await road.edit(SECOND, BYE)
        await road.carry()
        steps = [await carries.step() for _ in range(3)]
        waiting = await road.owner.fetchval("SELECT ended_at IS NULL FROM carries")
    await road.forget_told()
    await road.work()

    assert (steps, waiting) == ([True, False, False], True)
    assert await road.poked() == ["ann", "bob"]


async def test_who_is_let_in_while_it_is_being_published_goes_over_too(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann")
    world, carries = road.crowd.world, Carries(road.crowd.transactions, road.versions)
    await road.edit(SECOND, BYE)
    carry = Confirmed(mode=COMPATIBLE, pairs=(), token=(await road.preview()).token)
    async with AsyncExitStack() as both:
        publishing_it = await both.enter_async_context(AsyncExitStack())
        publisher = await publishing_it.enter_async_context(world.transactions.write(world.scope.project_no))
        await publishing.publish(publisher, world.scope, "welcome", ANY_STATE, carry=carry)
        # Nobody who has begun later has ended yet when it is committed.
        enroller = await both.enter_async_context(world.transactions.write(world.scope.project_no))
        await enroll(enroller, world.scope, Versions(), "welcome", ["bob"])
        await publishing_it.aclose()
        steps = [await carries.step() for _ in range(3)]
        waiting = await road.owner.fetchval("SELECT ended_at IS NULL FROM carries")
    await road.forget_told()
    await road.work()

    assert (steps, waiting) == ([True, False, False], True)
    assert await road.poked() == ["ann", "bob"]


async def test_a_page_that_is_cut_off_is_begun_again_and_nobody_is_told_twice(road: Publisher) -> None:
    world = road.crowd.world
    await road.publish(MONTH, BYE)
    people = [f"s{n}" for n in range(7)]
    for n, who in enumerate(people):
        await world.lay_execution(who, started_at=START + timedelta(hours=n))
    await road.edit(SECOND, BYE)
    await road.carry()
    carries = Carries(road.crowd.transactions, road.versions, page=3)
    while not await road.owner.fetchval("SELECT told FROM carries"):
        if not await carries.step():
            await asyncio.sleep(0.01)
    await fail_first_commit(road.owner, "outbox")

    with pytest.raises(asyncpg.RaiseError):
        await carries.step()
    await world.do(merging.merge, b"0" * 32, RuleBook(), "s6", into="s0")
    merged = await road.owner.fetchval("SELECT count(*) FROM outbox")  # three, and those whom the merge pokes
    await asyncio.gather(*(road.work(page=2) for _ in range(3)))

    assert await road.owner.fetchval("SELECT count(*) FROM outbox") == merged + 4
    assert await road.owner.fetchval("SELECT count(DISTINCT execution_id) FROM outbox") == 7
    assert await road.owner.fetchval("SELECT count(*) FROM executions WHERE carry_version = 2") == 7
    assert (await road.progress(2)).carry.told == 7


async def test_of_two_carries_the_one_to_the_newer_version_holds(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann")
    for reason in ("second", "third"):
        await road.edit(MONTH, {**BYE, "exit": {"reason": reason}})
        await road.carry()
    await road.owner.execute("UPDATE carries SET moved_at = moved_at + interval '1 day' WHERE version = 2")

    await road.work()
    await road.ask()

    assert (await road.standing())[0] == 3
    assert ((await road.progress(2)).carry.told, (await road.progress(3)).carry.told) == (0, 1)


async def test_who_is_to_end_ends_where_he_stands(road: Publisher) -> None:
    await road.publish(MONTH, BYE)
    await road.enroll("ann", "bob")
    bobs = (await road.question("bob")).execution_id
    await road.crowd.world.do(canceling.cancel, bobs, "wrong-price")
    await road.rebuild(SECOND, BYE)
    await road.crowd.world.do(lifecycle.archive, "welcome", OnArchive.END, ANY_STATE)

    for who in ("ann", "bob"):
        await road.ask(who)

    assert await road.poked() == ["ann", "bob"]
    assert await road.ended("ann") == ("canceled", "journey_archived")
    assert await road.ended("bob") == ("canceled", "wrong-price")
    assert await road.owner.fetchval("SELECT array_agg(DISTINCT version) FROM executions") == [1]
    assert (await road.progress(2)).pending == 0


async def test_another_projects_carries_are_not_there(
    road: Publisher, owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    await road.publish(MONTH, BYE)
    await road.edit(SECOND, BYE)
    await road.carry()
    stranger = await road.crowd.world.make(owner, api_pool, "stranger")

    with pytest.raises(NotFound):
        await stranger.look(carrying.get, "welcome", 2)
    with pytest.raises(NotFound, match="nobody was carried over"):
        await road.progress(1)


async def test_who_was_moved_by_a_worker_that_does_not_look_at_marks_stays(road: Publisher) -> None:
    await road.publish(MONTH, wait_for(event("paid")), BYE, LATE)
    await road.enroll("ann")
    await road.rebuild(MONTH, BYE)
    await _move(road, "ann", "await")

    effect = await road.ask()

    assert (effect.kind, effect.step_id, await road.standing()) == ("sleep", "await", (1, "await", 1, None))
