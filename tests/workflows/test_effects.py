"""Journeys that change their subjects, let events happen and call webhooks, as they really run."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.application import segments, trigger_contracts
from orchestrator.application.communications import Communications
from orchestrator.application.execution_explanations import ExecutionExplanations
from orchestrator.application.executions import Executions
from orchestrator.application.ingest import Ingest
from orchestrator.application.subjects import upsert
from orchestrator.application.versions import Versions
from orchestrator.domain.channels import Rules
from orchestrator.domain.communication import Communication
from orchestrator.domain.entry import MAX_HOPS
from orchestrator.domain.event import Event
from orchestrator.domain.segment import DYNAMIC, Segment
from orchestrator.domain.standing import Doing
from orchestrator.domain.subject import SubjectPatch
from orchestrator.domain.trigger_contract import Contract, Transition
from orchestrator.temporal.statuses import Statuses
from tests.integration.channels.receiver import Receiver, answering, one_after_the_other, receiving
from tests.provider.wire import response
from tests.workflows.world import Running

Json = dict[str, Any]
BYE: Json = {"id": "bye", "exit": {"reason": "finished"}}
SORRY: Json = {"id": "sorry", "exit": {"reason": "not_taken"}}
PRIVATE = "http://10.0.0.1/"


def call(where: Receiver | str, step_id: str = "call", *, following: str = "bye", **more: Any) -> Json:
    url = where if isinstance(where, str) else f"http://127.0.0.1:{where.port}/"
    return {"id": step_id, "webhook": {"url": url, "otherwise": "sorry", **more}, "next": following}


def asks(field_path: str, operator: str, value: Any = None) -> Json:
    leaf = {"kind": "attribute", "fieldPath": field_path, "operator": operator}
    return leaf if value is None else leaf | {"value": value}


async def ended(running: Running, count: int = 1) -> None:
    await running.until("(SELECT count(*) FROM executions WHERE outcome = 'completed') = $1", count)


async def starts_on(running: Running, event_name: str) -> str:
    contract = Contract(name=event_name, event_name=event_name, predicate=None, entry_key_path=None)
    await running.world.do(trigger_contracts.create, f"on-{event_name}", contract)
    return f"on-{event_name}"


async def knows(running: Running, subject_id: str, **attributes: Any) -> None:
    project_no = running.world.scope.project_no
    async with running.world.transactions.write(project_no) as conn:
        await upsert(conn, project_no, [SubjectPatch(subject_id=subject_id, attributes=attributes)])


async def test_what_a_webhook_answers_is_asked_about_written_told_and_sent(at_work: Running) -> None:
    content = Communication(
        name="scored",
        channel="log",
        category="marketing",
        subject="{{ steps.call.score }} points",
        body="{{ steps.call.comment }}",
        settings={},
    )
    await at_work.world.do(Communications(Rules()).create, "scored", content)
    await at_work.publish(BYE, journey_id="next", triggerContractId=await starts_on(at_work, "scored"))
    await knows(at_work, "ann", name='Ann "?/&', plan="free")
    body = {"who": "{{ subject.id }}/{{ subject.attributes.name }}", "plan": {"$path": "plan"}}
    score = {"$path": "$steps.call.score"}
    written = {"score": score, "plan": "pro", "note": "{{ steps.call.score }}!"}
    both = {"kind": "and", "clauses": [asks("$steps.call.score", "gte", 5), asks("plan", "equals", "pro")]}
    async with receiving(answering(200, b'{"score": 7, "comment": "well done, canary"}')) as receiver:
        url = (
            f"http://127.0.0.1:{receiver.port}/{{{{ subject.attributes.name }}}}?plan={{{{ subject.attributes.plan }}}}"
        )
        await at_work.publish(
            call(url, method="put", headers={"X-Team": "growth"}, body=body, otherwise="bye", following="write"),
            {"id": "write", "updateSubject": {"attributes": written}, "next": "ask"},
            {"id": "ask", "branch": {"arms": [{"id": "good", "when": both, "next": "tell"}], "otherwise": "bye"}},
            {"id": "tell", "emitEvent": {"eventName": "scored", "properties": {"score": score}}, "next": "hello"},
            {"id": "hello", "send": {"communicationId": "scored"}, "next": "bye"},
            BYE,
        )

        (entry,) = await at_work.enroll("ann")
        await ended(at_work, count=2)

    (request,) = receiver.requests
    assert (request.method, request.path) == ("PUT", "/Ann%20%22%3F%2F%26?plan=free")
    assert orjson.loads(request.body) == {"who": 'ann/Ann "?/&', "plan": "free"}
    assert request.headers["x-team"] == "growth"
    assert len(request.headers["idempotency-key"]) == 64
    known = await at_work.owner.fetchval("SELECT attributes FROM subjects WHERE subject_id = 'ann'")
    assert orjson.loads(known) == {"name": 'Ann "?/&', "score": 7, "plan": "pro", "note": "7!"}
    assert await at_work.owner.fetchval("SELECT properties->>'score' FROM events") == "7"
    (message,) = at_work.channel.messages
    assert (message.subject, message.body) == ("7 points", "well done, canary")
    steps = await at_work.owner.fetchval(
        "SELECT array_agg(step_id || ' ' || result ORDER BY seq, place) FROM visits WHERE journey_id = 'welcome'"
    )
    assert steps == [f"{step} executed" for step in ("call", "write", "ask", "tell", "hello", "bye")]
    history = await at_work.client.get_workflow_handle(entry.workflow_id).fetch_history()
    assert not [word for word in ("canary", "Ann", "127.0.0.1", "points") if word in history.to_json()]


async def test_a_call_that_is_not_taken_is_tried_again_under_one_key(at_work: Running) -> None:
    later = response(503, b"", {"retry-after": "0"})
    async with receiving(one_after_the_other(later, later, response(204))) as receiver:
        await at_work.publish(call(receiver), BYE, SORRY)

        await at_work.enroll("ann")
        await ended(at_work)

    assert len(receiver.requests) == 3
    assert len({request.headers["idempotency-key"] for request in receiver.requests}) == 1
    assert await at_work.visits() == [("call", "executed", None), ("bye", "executed", None)]
    row = await at_work.owner.fetchrow("SELECT state, attempt, status, reason, answer FROM webhook_calls")
    assert row is not None
    assert tuple(row) == ("answered", 3, 204, None, None)


async def test_a_call_that_is_refused_or_too_late_leads_elsewhere(at_work: Running) -> None:
    refusals = one_after_the_other(response(422), response(302, b"", {"location": PRIVATE}))
    await knows(at_work, "ann", up="..")
    async with receiving(refusals) as refusing, receiving(answering(503, retry_after="60")) as busy:
        await at_work.publish(
            call(refusing, "refused", otherwise="late"),
            call(busy, "late", retryFor="30s", otherwise="private"),
            call(PRIVATE, "private", otherwise="upwards"),
            call(
                f"http://127.0.0.1:{refusing.port}/a/{{{{ subject.attributes.up }}}}/b",
                "upwards",
                otherwise="redirected",
            ),
            call(refusing, "redirected"),
            SORRY,
            BYE,
        )

        await at_work.enroll("ann")
        await ended(at_work)

    assert await at_work.visits() == [
        ("refused", "failed", "rejected"),
        ("late", "failed", "receiver_failed"),
        ("private", "failed", "address_forbidden"),
        ("upwards", "failed", "url_forbidden"),
        ("redirected", "failed", "redirected"),
        ("sorry", "executed", None),
    ]
    assert [len(receiver.requests) for receiver in (refusing, busy)] == [2, 1]


async def test_an_answer_that_cannot_be_kept_is_as_good_as_none(at_work: Running) -> None:
    has_answer = asks("$steps.call.a", "exists")
    async with receiving(answering(200, b'{"a": "' + b"x" * 9000 + b'"}')) as receiver:
        await at_work.publish(
            call(receiver, following="ask"),
            {"id": "ask", "branch": {"arms": [{"id": "x", "when": has_answer, "next": "sorry"}], "otherwise": "bye"}},
            BYE,
            SORRY,
        )

        await at_work.enroll("ann")
        await ended(at_work)

    assert await at_work.visits() == [
        ("call", "executed", "answer_too_large"),
        ("ask", "executed", "otherwise"),
        ("bye", "executed", None),
    ]


async def test_whoever_waits_for_a_call_is_explained(at_work: Running) -> None:
    async with receiving(answering(503, retry_after="60")) as busy:
        await at_work.publish(call(busy), BYE, SORRY)
        (entry,) = await at_work.enroll("ann")
        await at_work.until("EXISTS (SELECT FROM webhook_calls WHERE reason IS NOT NULL)")

        told = await ExecutionExplanations(Executions(Statuses(at_work.client)), Versions()).explain(
            at_work.world.transactions, at_work.world.scope, str(entry.execution_id)
        )

    assert told.doing is Doing.RUN
    assert told.summary.startswith("Calls a webhook on the step call: under way")
    (shown,) = told.whole.calls
    assert (shown.state, shown.status, shown.reason, shown.has_answer) == ("calling", 503, "receiver_failed", False)


async def test_a_journey_that_starts_itself_comes_to_an_end(at_work: Running) -> None:
    tell = {"id": "tell", "emitEvent": {"eventName": "again"}, "next": "bye"}
    await at_work.publish(tell, BYE, triggerContractId=await starts_on(at_work, "again"))
    event = Event(event_id="e-1", name="again", subject_id="ann", occurred_at=None, properties=b"{}")

    await Ingest(at_work.transactions).take(at_work.world.scope.project_no, [event], backfill=False)
    await at_work.until("EXISTS (SELECT FROM refusal_counts WHERE reason = 'loop')")
    await ended(at_work, count=MAX_HOPS + 1)

    hops = await at_work.owner.fetchval("SELECT array_agg(hops ORDER BY hops) FROM enrollments")
    assert hops == [*range(MAX_HOPS + 1)]
    assert await at_work.owner.fetchval("SELECT count(*) FROM events") == MAX_HOPS + 2


async def test_journeys_that_start_one_another_by_a_segment_come_to_an_end(at_work: Running) -> None:
    is_on = asks("on", "equals", True)
    await at_work.world.do(segments.create, "on", Segment(kind=DYNAMIC, name="on", description="", predicate=is_on))
    transitions: list[tuple[Transition, bool]] = [("entered", False), ("left", True)]
    for transition, value in transitions:
        contract = Contract(
            name=transition,
            event_name=None,
            predicate=None,
            entry_key_path=None,
            segment_id="on",
            transition=transition,
        )
        await at_work.world.do(trigger_contracts.create, transition, contract)
        mark = {"id": "mark", "updateSubject": {"attributes": {"on": value}}, "next": "bye"}
        every_time = {"policy": "entry_key"}
        await at_work.publish(mark, BYE, journey_id=transition, triggerContractId=transition, reentry=every_time)
    await at_work.until("NOT EXISTS (SELECT FROM inbox)")

    await knows(at_work, "ann", on=True)
    await at_work.until("EXISTS (SELECT FROM refusal_counts WHERE reason = 'loop')")
    await ended(at_work, count=MAX_HOPS + 1)


@pytest.mark.parametrize("kind", ["updateSubject", "emitEvent"])
async def test_a_template_without_a_text_fails_the_step(at_work: Running, kind: str) -> None:
    bad = "{% if subject.attributes.name > 5 %}x{% endif %}"
    body = {"attributes": {"a": bad}} if kind == "updateSubject" else {"eventName": "e", "properties": {"a": bad}}
    await knows(at_work, "ann", name="Ann")
    await at_work.publish({"id": "do", kind: body, "next": "bye"}, BYE)

    await at_work.enroll("ann")
    await ended(at_work)

    assert await at_work.visits() == [("do", "failed", "template_value"), ("bye", "executed", None)]
