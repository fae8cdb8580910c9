"""Executions that go over to another version between what steps do: calls, events and changes are done once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import segments
from orchestrator.application.calling import Receipt, Reserved
from orchestrator.application.sending import TooEarly
from orchestrator.domain.carrying import CarryMode
from orchestrator.storage.webhook_calls import ANSWERED, FAILED
from orchestrator.temporal.contract import Effect
from tests.integration.journey_world import ANY_STATE
from tests.integration.road import BYE, LATE, MONTH
from tests.integration.test_carrying import SECOND, Publisher
from tests.integration.test_effects import CALL, GOOD, Doing

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Json = dict[str, Any]

OLD: Json = {"id": "call", "webhook": {"url": "https://old.example.com/"}, "next": "bye"}
TELL: Json = {"id": "tell", "emitEvent": {"eventName": "seen"}, "next": "pause"}
MARK: Json = {"id": "mark", "updateSubject": {"attributes": {"plan": "pro"}}, "next": "pause"}
SOON, HOUR = timedelta(0), timedelta(hours=1)


class Doer(Doing):
    """Whoever does the steps of those who travel on a road that is rebuilt."""

    def __init__(self, road: Publisher) -> None:
        super().__init__(road)
        self.builder = road

    async def calls(self) -> list[tuple[str, int, str, int]]:
        """(step, version, state, attempt)."""
        rows = await self.owner.fetch("SELECT step_id, version, state, attempt FROM webhook_calls ORDER BY seq")
        return [(row[0], row[1], row[2], row[3]) for row in rows]


@pytest.fixture
async def doer(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Doer:
    made = await Publisher.make(owner, api_pool, worker_pool)
    assert isinstance(made, Publisher)
    return Doer(made)


async def test_a_call_that_did_not_go_out_is_made_by_the_new_version_under_a_key_of_its_own(doer: Doer) -> None:
    await doer.builder.publish(OLD, BYE)
    await doer.builder.enroll("ann")
    question = await doer.question()
    first = await doer.reserved(question)
    await doer.calling.note(first, "unreachable", None, HOUR, in_doubt=False)
    await doer.builder.rebuild(CALL, GOOD, BYE, LATE)

    effect = await doer.calling.reserve(question)
    late = await doer.calling.settle(question, first, Receipt(state=ANSWERED, status=200, answer={"score": 9}))
    second = await doer.reserved(await doer.question())

    assert isinstance(effect, Effect)
    assert (effect.kind, effect.step_id, effect.seq) == ("run", "call", 1)
    assert late == effect
    assert second.step.url == "https://example.com/"
    assert second.idempotency_key != first.idempotency_key
    assert await doer.calls() == [("call", 1, "failed", 1), ("call", 2, "calling", 1)]
    assert await doer.builder.visits() == [("call", 1, "skipped", "withdrawn")]
    assert await doer.builder.complaints() == {}


async def test_a_call_that_may_have_gone_out_is_finished_by_the_old_version_under_its_key(doer: Doer) -> None:
    await doer.builder.publish(OLD, BYE)
    await doer.builder.enroll("ann")
    question = await doer.question()
    first = await doer.reserved(question)
    await doer.calling.note(first, "timeout", None, HOUR, in_doubt=True)
    await doer.builder.rebuild(CALL, GOOD, BYE, LATE)

    with pytest.raises(TooEarly):
        await doer.calling.reserve(question)
    await doer.owner.execute("UPDATE webhook_calls SET retry_at = now()")
    second = await doer.reserved(question)
    await doer.calling.note(second, "unreachable", None, SOON, in_doubt=second.in_doubt)
    third = await doer.reserved(question)
    pending = (await doer.builder.progress(2)).pending
    effect = await doer.calling.settle(question, third, Receipt(state=FAILED, reason="rejected", in_doubt=True))

    assert {second.idempotency_key, third.idempotency_key} == {first.idempotency_key}
    assert third.step.url == "https://old.example.com/"
    assert pending == 1
    assert effect.kind == "end"
    visits = [("call", 1, "failed", "rejected"), ("late", 2, "executed", None)]  # by the way that the new one has
    assert await doer.builder.visits() == visits
    assert await doer.calls() == [("call", 1, "failed", 3)]
    assert await doer.builder.complaints() == {}


async def test_a_call_in_doubt_that_the_old_version_gives_up_is_not_made_by_the_new(doer: Doer) -> None:
    is_late = {"kind": "attribute", "fieldPath": "late", "operator": "exists"}
    await doer.builder.publish(OLD, BYE, exitRules=[{"id": "late", "when": is_late}])
    await doer.builder.enroll("ann")
    question = await doer.question()
    await doer.reserved(question)
    await doer.builder.edit(CALL, GOOD, BYE, LATE, exitRules=None)
    await doer.builder.carry()
    await doer.builder.work()
    await doer.builder.crowd.known(ann={"late": True})

    effect = await doer.calling.reserve(question)

    assert isinstance(effect, Effect)
    assert (await doer.builder.visits())[:2] == [
        ("call", 1, "skipped", "withdrawn"),
        ("call", 2, "skipped", "already_sent"),
    ]
    assert await doer.calls() == [("call", 1, "failed", 1)]
    assert await doer.builder.complaints() == {}


async def test_an_answer_is_read_by_the_name_of_what_its_step_has_become(doer: Doer) -> None:
    rated = {**CALL, "id": "rate"}
    is_good = {"kind": "attribute", "fieldPath": "$steps.rate.score", "operator": "gte", "value": 5}
    good = {"id": "good", "branch": {"arms": [{"id": "good", "when": is_good, "next": "pause"}], "otherwise": "late"}}
    await doer.builder.publish(OLD, BYE)
    await doer.builder.enroll("ann")
    question = await doer.question()
    reserved = await doer.reserved(question)
    await doer.builder.rebuild(rated, good, MONTH, BYE, LATE, mode=CarryMode.MAPPED, call="rate")
    effect = await doer.calling.settle(question, reserved, Receipt(state=ANSWERED, answer={"score": 7}))
    assert (effect.kind, effect.step_id) == ("sleep", "pause")

    again = {**rated, "id": "rank", "next": "good"}
    is_fine = {"kind": "attribute", "fieldPath": "$steps.rank.score", "operator": "gte", "value": 5}
    fine = {"id": "good", "branch": {"arms": [{"id": "fine", "when": is_fine, "next": "bye"}], "otherwise": "late"}}
    await doer.builder.edit({**SECOND, "next": "rank"}, again, fine, BYE, LATE)
    preview = await doer.builder.preview(CarryMode.MAPPED, None, rate="rank")
    await doer.builder.carry(CarryMode.MAPPED, None, rate="rank")
    await doer.builder.work()
    await doer.owner.execute("UPDATE executions SET since = since - interval '2 s'")
    effect = await doer.builder.ask("ann")

    assert [(fault.path, fault.reason) for fault in preview.warnings] == [("steps[1]", "SEND_ALREADY_PASSED")]
    assert effect.kind == "end"
    assert await doer.builder.visits("ann") == [
        ("call", 1, "executed", None),
        ("good", 2, "executed", "good"),
        ("pause", 3, "executed", None),
        ("rank", 3, "skipped", "already_sent"),
        ("good", 3, "executed", "fine"),
        ("bye", 3, "executed", None),
    ]
    assert await doer.builder.complaints() == {}


async def test_an_event_is_told_once_and_a_change_is_made_again_where_both_lie_ahead_again(doer: Doer) -> None:
    await doer.builder.publish({**TELL, "next": "mark"}, MARK, MONTH, BYE)
    await doer.builder.enroll("ann")
    await doer.do(await doer.question())
    await doer.do(await doer.question())
    await doer.owner.execute("UPDATE subjects SET attributes = '{}'")
    await doer.builder.rebuild({**SECOND, "next": "tell"}, {**TELL, "next": "mark"}, {**MARK, "next": "bye"}, BYE)
    await doer.owner.execute("UPDATE executions SET since = since - interval '2 s'")

    effect = await doer.builder.ask()
    await doer.do(await doer.question())

    assert (effect.kind, effect.step_id) == ("run", "mark")
    assert (await doer.builder.visits())[2:5] == [
        ("pause", 2, "executed", None),
        ("tell", 2, "skipped", "already_sent"),
        ("mark", 2, "executed", None),
    ]
    assert len(await doer.events()) == 1
    assert (await doer.subject())[0] == {"plan": "pro"}
    assert await doer.builder.complaints() == {}


async def test_what_was_only_planned_is_done_by_the_new_version(doer: Doer) -> None:
    await doer.builder.publish(MARK, MONTH, BYE)
    await doer.builder.enroll("ann")
    question = await doer.question()
    plan = await doer.planned(question)
    await doer.builder.rebuild({**MARK, "updateSubject": {"attributes": {"plan": "free"}}}, MONTH, BYE)

    effect = await doer.do(question, plan)
    assert (effect.kind, effect.step_id, effect.seq) == ("run", "mark", 1)
    await doer.do(await doer.question())

    assert (await doer.subject())[0] == {"plan": "free"}
    assert await doer.builder.visits() == [("mark", 2, "executed", None)]


async def test_a_change_that_is_held_goes_over_and_the_workflow_hears_of_it(doer: Doer) -> None:
    rule = {"id": "vip", "when": {"kind": "in_cohort", "cohortId": "vip"}}
    await doer.builder.publish(MARK, MONTH, BYE, exitRules=[rule])
    await doer.builder.enroll("ann")
    question = await doer.question()
    await doer.builder.crowd.world.do(segments.delete, "vip", ANY_STATE, force=True)
    assert (await doer.builder.ask()).kind == "sleep"
    await doer.builder.edit(MARK, MONTH, BYE, exitRules=None)
    await doer.builder.carry()
    await doer.builder.work()
    await doer.builder.forget_told()

    over = await doer.changing.plan(question)  # perhaps by somebody whom no workflow listens to

    assert isinstance(over, Effect)
    assert (over.kind, over.seq, await doer.builder.poked()) == ("run", 1, ["ann"])
    assert await doer.builder.standing() == (2, "mark", 1, None)


async def test_a_call_that_is_not_begun_is_made_by_the_new_version(doer: Doer) -> None:
    await doer.builder.publish(OLD, BYE)
    await doer.builder.enroll("ann")
    old = await doer.question()
    await doer.builder.rebuild(CALL, GOOD, BYE, LATE)

    effect = await doer.calling.reserve(old)
    reserved = await doer.calling.reserve(await doer.question())

    assert isinstance(effect, Effect)
    assert (effect.kind, effect.seq) == ("run", 1)
    assert isinstance(reserved, Reserved)
    assert await doer.calls() == [("call", 2, "calling", 1)]
