"""Steps that change the subject, let events happen and call webhooks: once, whatever is tried again and whoever comes
in between. Without Temporal: the tests are its workflow."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest

from orchestrator.application import canceling, merging, segments
from orchestrator.application.calling import Calling, Receipt, Reserved
from orchestrator.application.changing import Changing, Plan
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.sending import TooEarly
from orchestrator.domain.fillings import Source, fill
from orchestrator.domain.journey import Webhook
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.segment import STATIC, Segment
from orchestrator.storage.webhook_calls import ANSWERED, FAILED
from orchestrator.temporal.contract import Effect, Question
from tests.integration.journey_world import ANY_STATE, IN_VIP
from tests.integration.road import BYE, Road

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

Json = dict[str, Any]

MARK: Json = {"id": "mark", "updateSubject": {"attributes": {"plan": "pro", "old": None}}, "next": "ask"}
TELL: Json = {"id": "tell", "emitEvent": {"eventName": "upgraded", "properties": {"plan": "pro"}}, "next": "seen"}
IS_PRO: Json = {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"}
ASK: Json = {"id": "ask", "branch": {"arms": [{"id": "pro", "when": IS_PRO, "next": "tell"}], "otherwise": "bye"}}
HAS_SEEN: Json = {"kind": "event_fired", "eventName": "upgraded", "window": {"type": "last", "duration": "1h"}}
SEEN: Json = {"id": "seen", "branch": {"arms": [{"id": "seen", "when": HAS_SEEN, "next": "bye"}], "otherwise": "bye"}}
CALL: Json = {"id": "call", "webhook": {"url": "https://example.com/", "otherwise": "late"}, "next": "good"}
IS_GOOD: Json = {"kind": "attribute", "fieldPath": "$steps.call.score", "operator": "gte", "value": 5}
GOOD: Json = {"id": "good", "branch": {"arms": [{"id": "good", "when": IS_GOOD, "next": "bye"}], "otherwise": "late"}}
LATE: Json = {"id": "late", "exit": {"reason": "too_late"}}


class Doing:
    """Whoever does the steps of the executions on a road."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.owner = road.owner
        transactions = road.crowd.transactions
        self.changing = Changing(transactions, road.versions)
        self.calling = Calling(transactions, road.versions)

    async def question(self, subject_id: str = "ann") -> Question:
        row = await self.owner.fetchrow(
            "SELECT e.* FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)"
            " WHERE s.subject_id = $1 AND e.outcome IS NULL",
            subject_id,
        )
        assert row is not None
        now = await self.owner.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        return Question(
            project_no=row["project_no"],
            bucket=row["bucket"],
            subject_no=row["subject_no"],
            execution_id=str(row["execution_id"]),
            seq=row["seq"],
            now=now,
        )

    async def planned(self, question: Question) -> Plan:
        plan = await self.changing.plan(question)
        assert isinstance(plan, Plan), plan
        return plan

    async def do(self, question: Question, plan: Plan | None = None) -> Effect:
        planned: Plan | Effect = plan or await self.planned(question)
        while isinstance(planned, Plan):
            filled = fill(planned.filling, planned.source, {})
            planned = await self.changing.carry_out(question, planned, filled, "")
        return planned

    async def reserved(self, question: Question) -> Reserved:
        reserved = await self.calling.reserve(question)
        assert isinstance(reserved, Reserved), reserved
        return reserved

    async def visits(self) -> list[tuple[str, str, str | None]]:
        rows = await self.owner.fetch("SELECT step_id, result, reason FROM visits ORDER BY seq, place")
        return [(row[0], row[1], row[2]) for row in rows]

    async def subject(self, subject_id: str = "ann") -> tuple[Json, int]:
        row = await self.owner.fetchrow("SELECT attributes, revision FROM subjects WHERE subject_id = $1", subject_id)
        assert row is not None
        return orjson.loads(row["attributes"]), row["revision"]

    async def events(self) -> list[tuple[str, Json]]:
        rows = await self.owner.fetch("SELECT event_id, properties FROM events ORDER BY event_no")
        return [(row[0], orjson.loads(row[1])) for row in rows]

    async def call(self) -> tuple[str, int, str | None, Json | None]:
        row = await self.owner.fetchrow("SELECT state, attempt, reason, answer FROM webhook_calls")
        assert row is not None
        answer = orjson.loads(row["answer"]) if row["answer"] is not None else None
        return row["state"], row["attempt"], row["reason"], answer


@pytest.fixture
async def doing(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Doing:
    return Doing(await Road.make(owner, api_pool, worker_pool))


async def test_a_change_is_made_once_however_often_it_is_tried_and_known_to_the_next_step(doing: Doing) -> None:
    await doing.road.crowd.known(ann={"old": 1})
    await doing.road.publish(MARK, ASK, TELL, SEEN, BYE)
    await doing.road.enroll("ann")
    question = await doing.question()
    plan = await doing.planned(question)

    effects = await asyncio.gather(*(doing.do(question, plan) for _ in range(3)))
    after = await doing.do(question, plan)

    assert {effect.step_id for effect in [*effects, after]} == {"tell"}
    assert await doing.subject() == ({"plan": "pro"}, 2)

    question = await doing.question()
    plan = await doing.planned(question)
    effects = await asyncio.gather(*(doing.do(question, plan) for _ in range(3)))

    assert {effect.kind for effect in effects} == {"end"}
    ((event_id, properties),) = await doing.events()
    assert event_id.startswith("step:")
    assert properties == {"plan": "pro"}
    assert await doing.visits() == [
        ("mark", "executed", None),
        ("ask", "executed", "pro"),
        ("tell", "executed", None),
        ("seen", "executed", "seen"),
        ("bye", "executed", None),
    ]
    # Consumers are told of both, by somebody who is one step away from what came from outside.
    told = await doing.owner.fetch("SELECT kind, hops FROM inbox ORDER BY inbox_no")
    assert [(row["kind"], row["hops"]) for row in told if row["hops"]] == [("attributes", 1), ("events", 1)]


async def test_whoever_was_canceled_meanwhile_changes_nothing(doing: Doing) -> None:
    await doing.road.publish(MARK, ASK, TELL, SEEN, BYE)
    await doing.road.enroll("ann")
    question = await doing.question()
    plan = await doing.planned(question)
    await doing.road.crowd.world.do(canceling.cancel, question.execution_id, "why")

    effect = await doing.do(question, plan)

    assert (effect.kind, effect.outcome) == ("end", "canceled")
    assert await doing.subject() == ({}, 1)
    assert await doing.visits() == []


async def test_what_was_planned_for_somebody_who_was_merged_is_done_to_the_survivor(doing: Doing) -> None:
    await doing.road.crowd.known(ann={"old": 1}, bob={"name": "Bob"})
    await doing.road.publish(MARK, ASK, TELL, SEEN, BYE)
    await doing.road.enroll("ann")
    question = await doing.question()
    plan = await doing.planned(question)
    world = doing.road.crowd.world
    await world.do(merging.merge, b"s" * 32, RuleBook(), "ann", into="bob")

    effect = await doing.do(question, plan)

    assert effect.step_id == "tell"
    assert (await doing.subject("bob"))[0] == {"plan": "pro", "name": "Bob"}


async def test_what_was_filled_from_something_that_has_changed_is_filled_anew(doing: Doing) -> None:
    await doing.road.crowd.known(ann={"a": 1})
    copy: Json = {"id": "mark", "updateSubject": {"attributes": {"b": {"$path": "a"}}}, "next": "bye"}
    await doing.road.publish(copy, BYE)
    await doing.road.enroll("ann")
    question = await doing.question()
    plan = await doing.planned(question)
    await doing.road.crowd.known(ann={"a": 2})

    anew = await doing.changing.carry_out(question, plan, {"b": 1}, "")
    assert isinstance(anew, Plan)
    await doing.do(question, anew)

    assert (await doing.subject())[0] == {"a": 2, "b": 2}


async def test_what_cannot_be_kept_fails_the_step_and_the_execution_goes_on(doing: Doing) -> None:
    await doing.road.crowd.known(ann={"text": "x" * 40_000})
    grow: Json = {"id": "mark", "updateSubject": {"attributes": {"more": {"$path": "text"}}}, "next": "tell"}
    tell: Json = {
        "id": "tell",
        "emitEvent": {"eventName": "e", "properties": {"a": {"$path": "text"}, "b": {"$path": "text"}}},
        "next": "bye",
    }
    await doing.road.publish(grow, tell, BYE)
    await doing.road.enroll("ann")

    await doing.do(await doing.question())
    question = await doing.question()
    await doing.do(question)

    assert await doing.visits() == [
        ("mark", "failed", "too_large"),
        ("tell", "failed", "too_large"),
        ("bye", "executed", None),
    ]
    assert (await doing.subject())[1] == 1
    assert await doing.events() == []


async def test_a_template_that_fails_is_the_reason_of_the_visit(doing: Doing) -> None:
    await doing.road.publish(MARK, ASK, TELL, SEEN, BYE)
    await doing.road.enroll("ann")
    question = await doing.question()

    await doing.changing.carry_out(question, await doing.planned(question), None, "template_value")

    assert await doing.visits() == [
        ("mark", "failed", "template_value"),
        ("ask", "executed", "otherwise"),
        ("bye", "executed", None),
    ]


async def test_whoever_is_parked_changes_nothing_until_that_is_mended(doing: Doing) -> None:
    world = doing.road.crowd.world
    await doing.road.publish(MARK, ASK, TELL, SEEN, BYE, exitRules=[{"id": "vip", "when": IN_VIP}])
    await doing.road.enroll("ann")
    question = await doing.question()
    late = await doing.planned(question)
    await world.do(segments.delete, "vip", ANY_STATE, force=True)

    parked = await doing.changing.plan(question)
    assert isinstance(parked, Effect)
    assert (parked.kind, parked.why) == ("sleep", "park")
    # A worker that was given up on comes back.
    await doing.do(question, late)
    assert await doing.subject() == ({}, 1)

    await world.do(segments.create, "vip", Segment(kind=STATIC, name="VIP", description="", predicate=None))
    await doing.road.forget_told()
    # Nobody can tell whether the workflow sleeps: it is poked, to hear of what is done.
    told = await doing.do(question, late)
    assert told.step_id == "tell"
    assert await doing.road.poked() == ["ann"]
    assert await doing.subject() == ({"plan": "pro"}, 2)
    assert await doing.owner.fetchval("SELECT parked FROM executions") is None


async def test_an_answer_is_known_to_the_step_behind_the_call(doing: Doing) -> None:
    await doing.road.publish(CALL, GOOD, BYE, LATE)
    await doing.road.enroll("ann")
    question = await doing.question()
    reserved = await doing.reserved(question)

    effect = await doing.calling.settle(
        question, reserved, Receipt(state=ANSWERED, status=200, answer={"score": 7, "who": "Ann"})
    )

    assert effect.kind == "end"
    assert await doing.visits() == [
        ("call", "executed", None),
        ("good", "executed", "good"),
        ("bye", "executed", None),
    ]
    assert await doing.call() == ("answered", 1, None, {"score": 7, "who": "Ann"})


async def test_only_the_last_try_of_a_call_says_what_came_of_it(doing: Doing) -> None:
    await doing.road.publish(CALL, GOOD, BYE, LATE)
    await doing.road.enroll("ann")
    question = await doing.question()
    first = await doing.reserved(question)
    await doing.calling.note(first, "timeout", None, timedelta(hours=1), in_doubt=True)
    with pytest.raises(TooEarly, match="timeout"):  # whoever pokes it has it look, and not call
        await doing.calling.reserve(question)
    await doing.calling.note(first, "timeout", None, timedelta(0), in_doubt=True)
    second = await doing.reserved(question)
    assert first.idempotency_key == second.idempotency_key

    await doing.calling.settle(question, first, Receipt(state=ANSWERED, status=200, answer={"score": 9}))
    assert await doing.visits() == []
    effect = await doing.calling.settle(question, second, Receipt(state=FAILED, reason="rejected", status=422))
    again = await doing.calling.settle(question, first, Receipt(state=ANSWERED, status=200, answer={"score": 9}))

    assert effect == again
    assert await doing.call() == ("failed", 2, "rejected", None)
    assert await doing.visits() == [("call", "failed", "rejected"), ("late", "executed", None)]


async def test_a_call_that_was_settled_and_not_gone_on_from_is_gone_on_from_once(doing: Doing) -> None:
    await doing.road.publish(CALL, GOOD, BYE, LATE)
    await doing.road.enroll("ann")
    question = await doing.question()
    await doing.reserved(question)
    # As the transaction leaves it that only records, when deciding has failed.
    await doing.owner.execute(
        "UPDATE webhook_calls SET state = 'answered', answer = '{\"score\": 5}', settled_at = clock_timestamp()"
    )

    effects = [await doing.calling.reserve(question) for _ in range(2)]

    assert effects[0] == effects[1]
    assert await doing.visits() == [
        ("call", "executed", None),
        ("good", "executed", "good"),
        ("bye", "executed", None),
    ]


async def test_a_call_is_withdrawn_between_two_tries_where_its_execution_is_to_end(doing: Doing) -> None:
    await doing.road.publish(CALL, GOOD, BYE, LATE)
    await doing.road.enroll("ann")
    question = await doing.question()
    await doing.reserved(question)
    await doing.road.crowd.world.do(canceling.cancel, question.execution_id, "why")

    effect = await doing.calling.reserve(question)

    assert isinstance(effect, Effect)
    assert effect.kind == "end"
    assert await doing.call() == ("failed", 1, "withdrawn", None)
    assert (await doing.visits())[0] == ("call", "skipped", "withdrawn")


def test_tries_of_a_call_are_farther_and_farther_apart_and_end() -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    step = Webhook(
        id="call", url="https://example.com/", method="post", headers={}, body=None, timeout=timedelta(seconds=5),
        retry_for=timedelta(hours=1), next="bye", otherwise="",
    )  # fmt: skip

    def pause(attempt: int, after: timedelta, asked: timedelta | None = None) -> timedelta | None:
        reserved = Reserved(
            key=SubjectKey(project_no=1, bucket=1, subject_no=1), execution_id=uuid4(), seq=0, attempt=attempt,
            in_doubt=False, step=step, source=Source(subject_id="ann"), reserved_at=at, now=at + after,
        )  # fmt: skip
        return reserved.pause(asked)

    zero, hour = timedelta(0), timedelta(hours=1)
    assert [pause(attempt, zero) for attempt in (1, 2, 3, 9, 10, 1000)] == [
        timedelta(seconds=seconds) for seconds in (1, 2, 4, 256, 300, 300)
    ]
    assert pause(1, zero, timedelta(minutes=20)) == timedelta(minutes=20)
    assert pause(3, zero, zero) == timedelta(seconds=4)
    assert pause(1, zero, hour) is None
    assert pause(12, hour - timedelta(minutes=5)) is None
    assert pause(12, hour - timedelta(minutes=6)) == timedelta(minutes=5)
