"""The core at steps that do something besides sending."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.advance import JOURNEY_ARCHIVED, advance
from orchestrator.domain.execution import Done, End, Outcome, Result, Run
from orchestrator.domain.gates import Consent, Limits
from orchestrator.domain.journey import Arm, Branch, EmitEvent, Exit, Step, UpdateSubject, Webhook
from orchestrator.predicates.tree import Attribute, Operator
from tests.unit.domain.test_advance import NOON, at, journey, known

MARK = UpdateSubject(id="mark", attributes={"plan": "pro"}, next="bye")
TELL = EmitEvent(id="tell", event_name="upgraded", properties={}, next="bye")
CALL = Webhook(
    id="call",
    url="https://example.com/",
    method="post",
    headers={},
    body=None,
    timeout=timedelta(seconds=7),
    retry_for=timedelta(hours=1),
    next="ask",
    otherwise="sorry",
)
SCORE = Attribute(path=("$steps", "call", "score"), operator=Operator.GREATER_OR_EQUAL, value=5)
ASK = Branch(id="ask", arms=(Arm(id="good", when=SCORE, next="bye"),), otherwise="sorry")
BYE, SORRY = Exit(id="bye", reason="finished"), Exit(id="sorry", reason="not_taken")
ALL = journey(MARK, TELL, CALL, ASK, BYE, SORRY)


@pytest.mark.parametrize(
    ("step", "activity", "seconds"), [(MARK, "update_subject", 30), (TELL, "emit_event", 30), (CALL, "webhook", 27)]
)
def test_each_asks_for_an_activity_of_its_own_whatever_holds_off_sends(step: Step, activity: str, seconds: int) -> None:
    held = replace(known(consent=Consent(suppressed=frozenset({"*"}))), limits=Limits(paused=True))

    asked = advance(ALL, at(step.id), held, NOON)

    assert asked.effect == Run(activity=activity, step_id=step.id, timeout=timedelta(seconds=seconds))
    assert asked.still_waiting


@pytest.mark.parametrize("step", [MARK, TELL])
def test_what_could_not_be_changed_is_passed_by_all_the_same(step: Step) -> None:
    failed = advance(ALL, at(step.id), known(), NOON, Done(result=Result.FAILED, reason="too_large"))

    assert next((v.step_id, v.result, v.reason) for v in failed.visits) == (step.id, Result.FAILED, "too_large")
    assert failed.effect == End(outcome=Outcome.COMPLETED, reason="finished")


@pytest.mark.parametrize("result", [Result.FAILED, Result.SKIPPED])
def test_a_call_that_was_not_taken_leads_elsewhere_if_there_is_such_a_way(result: Result) -> None:
    done = Done(result=result, reason="rejected")
    nowhere_else = journey(replace(CALL, otherwise=""), ASK, BYE, SORRY)

    elsewhere = advance(ALL, at("call"), known(), NOON, done)
    on = advance(nowhere_else, at("call"), known(), NOON, done)

    assert [v.step_id for v in elsewhere.visits] == ["call", "sorry"]
    assert [v.step_id for v in on.visits] == ["call", "ask", "sorry"]


def test_an_answer_is_asked_about_right_behind_the_call() -> None:
    answered = known()
    answered = replace(answered, subject=replace(answered.subject, steps={"call": {"score": 7}}))

    good = advance(ALL, at("call"), answered, NOON, Done(result=Result.EXECUTED))

    assert [(v.step_id, v.reason) for v in good.visits] == [("call", None), ("ask", "good"), ("bye", None)]


def test_what_was_done_is_recorded_before_the_journey_ends() -> None:
    closed = known(closed=JOURNEY_ARCHIVED)

    assert advance(ALL, at("mark"), closed, NOON).effect == End(outcome=Outcome.CANCELED, reason=JOURNEY_ARCHIVED)
    done = advance(ALL, at("call"), closed, NOON, Done(result=Result.EXECUTED))
    assert [v.step_id for v in done.visits] == ["call"]
    assert done.effect == End(outcome=Outcome.CANCELED, reason=JOURNEY_ARCHIVED)
