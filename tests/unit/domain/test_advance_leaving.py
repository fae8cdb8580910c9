"""How an execution ends before its last step: exit rules, goals, the longest time, the end of its journey."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain.advance import JOURNEY_ARCHIVED, PARK_RECHECK, Known, advance
from orchestrator.domain.execution import Done, End, Outcome, Position, Result, Run, Sleep, Why
from orchestrator.domain.gates import Consent
from orchestrator.domain.journey import (
    Definition,
    Exit,
    ExitRule,
    Happened,
    JourneyVersion,
    OnBlocked,
    Pinned,
    Send,
    Step,
    Wait,
)
from orchestrator.predicates.facts import EventFacts, Facts
from orchestrator.predicates.tree import Attribute, EventFired, InCohort, Last, Operator, Predicate, Source

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BOUGHT = Source(name="buy")
PRO = Attribute(path=("tier",), operator=Operator.EQUALS, value="pro")
VIP = InCohort(cohort_id="vip")
QUIET = EventFired(source=BOUGHT, window=Last(duration=2 * HOUR), at_least=1, negated=True)


def rule(rule_id: str, condition: Predicate | Happened) -> ExitRule:
    return ExitRule(id=rule_id, condition=condition)


BYE = Exit(id="bye", reason="finished")


def journey(
    *rules: ExitRule, on_goal: bool = False, max_duration: timedelta | None = None, last: Step = BYE
) -> JourneyVersion:
    """A wait of a day, a send, an exit."""
    steps: list[Step] = [
        Wait(id="wait", duration=DAY, next="hello"),
        Send(id="hello", communication_id="hello", on_blocked=OnBlocked.SKIP, next="bye"),
        last,
    ]
    return JourneyVersion(
        journey_id="j",
        version=1,
        definition=Definition(
            audience_id=None,
            trigger_contract_id=None,
            reentry=None,
            max_duration=max_duration,
            steps={step.id: step for step in steps},
            exit_rules=rules,
            exit_on_goal=on_goal,
        ),
        pinned={"hello": Pinned(content_revision=1, channel="log", category="marketing")},
    )


def known(
    attributes: dict[str, Any] | None = None,
    *,
    events: Mapping[Source, EventFacts] | None = None,
    known_cohorts: frozenset[str] = frozenset(),
    happened: Mapping[str, datetime] | None = None,
    goal_reached: bool = False,
    closed: str | None = None,
) -> Known:
    return Known(
        subject=Facts(attributes=attributes or {}, events=events or {}, known_cohorts=known_cohorts),
        consent=Consent(),
        started_at=NOON,
        happened=happened or {},
        goal_reached=goal_reached,
        closed=closed,
    )


def at(step_id: str, since: datetime = NOON) -> Position:
    return Position(step_id=step_id, since=since)


LEAVES = End(outcome=Outcome.EXITED, reason="pro")


def test_a_rule_ends_an_execution_in_the_middle_of_a_wait_and_leaves_no_visit() -> None:
    version = journey(rule("pro", PRO))

    stays = advance(version, at("wait"), known(), NOON + HOUR)
    leaves = advance(version, at("wait"), known({"tier": "pro"}), NOON + HOUR)

    assert stays.effect == Sleep(until=NOON + DAY, step_id="wait", why=Why.WAIT)
    assert (leaves.effect, leaves.visits, leaves.position) == (LEAVES, (), at("wait"))


def test_a_rule_ends_an_execution_before_a_send_begins() -> None:
    assert isinstance(advance(journey(), at("hello"), known({"tier": "pro"}), NOON).effect, Run)
    assert advance(journey(rule("pro", PRO)), at("hello"), known({"tier": "pro"}), NOON).effect == LEAVES


def test_what_was_done_is_recorded_before_a_rule_ends_it_where_it_goes_next() -> None:
    version = journey(rule("pro", PRO), last=Wait(id="bye", duration=DAY, next=""))

    decision = advance(version, at("hello"), known({"tier": "pro"}), NOON, Done(result=Result.EXECUTED))

    assert ([v.step_id for v in decision.visits], decision.position.step_id) == (["hello"], "bye")
    assert decision.effect == LEAVES


def test_no_rule_no_goal_and_no_longest_time_ends_it_at_an_exit() -> None:
    version = journey(rule("pro", PRO), on_goal=True, max_duration=DAY)

    decision = advance(
        version, at("hello"), known({"tier": "pro"}, goal_reached=True), NOON + 2 * DAY, Done(result=Result.EXECUTED)
    )

    assert [v.step_id for v in decision.visits] == ["hello", "bye"]
    assert decision.effect == End(outcome=Outcome.COMPLETED, reason="finished")


def test_the_first_rule_that_holds_is_the_reason() -> None:
    gold = rule("gold", Attribute(path=("tier",), operator=Operator.EXISTS, value=None))

    for rules, reason in (((rule("pro", PRO), gold), "pro"), ((gold, rule("pro", PRO)), "gold")):
        decision = advance(journey(*rules), at("wait"), known({"tier": "pro"}), NOON)
        assert decision.effect == End(outcome=Outcome.EXITED, reason=reason)


def test_a_rule_about_an_event_holds_for_whatever_counts_since_the_entry() -> None:
    version = journey(rule("bought", Happened(event_name="buy")))

    left = advance(version, at("wait"), known(happened={"rule:bought": NOON - HOUR}), NOON + HOUR)
    stays = advance(version, at("wait"), known(happened={"rule:other": NOON}), NOON + HOUR)

    assert left.effect == End(outcome=Outcome.EXITED, reason="bought")
    assert stays.still_waiting


def test_a_rule_that_names_a_segment_that_is_gone_parks_unless_an_earlier_one_holds() -> None:
    parked = Sleep(until=NOON + PARK_RECHECK, step_id="wait", why=Why.PARK, parked="segment_not_found")

    hidden = advance(journey(rule("vip", VIP), rule("pro", PRO)), at("wait"), known({"tier": "pro"}), NOON)
    first = advance(journey(rule("pro", PRO), rule("vip", VIP)), at("wait"), known({"tier": "pro"}), NOON)
    mended = advance(
        journey(rule("vip", VIP), rule("pro", PRO)),
        at("wait"),
        known({"tier": "pro"}, known_cohorts=frozenset({"vip"})),
        NOON,
    )

    assert hidden.effect == parked
    assert hidden.still_waiting
    assert (first.effect, mended.effect) == (LEAVES, LEAVES)


def test_whoever_is_parked_by_a_rule_expires_in_time_and_is_not_parked_for_ever() -> None:
    version = journey(rule("vip", VIP), max_duration=HOUR)

    before = advance(version, at("wait"), known(), NOON + HOUR - timedelta(minutes=5))
    after = advance(version, at("wait"), known(), NOON + HOUR)

    assert isinstance(before.effect, Sleep)
    assert (before.effect.until, before.effect.why) == (NOON + HOUR, Why.PARK)
    assert after.effect == End(outcome=Outcome.EXPIRED, reason="max_duration")


def test_a_sleep_ends_when_time_alone_could_make_a_rule_hold() -> None:
    version = journey(rule("pro", PRO), rule("quiet", QUIET))
    bought = known(events={BOUGHT: EventFacts(total=1, first_at=NOON, last_at=NOON)})

    asleep = advance(version, at("wait"), bought, NOON + HOUR)
    left = advance(version, at("wait"), bought, NOON + 2 * HOUR)

    assert asleep.effect == Sleep(until=NOON + 2 * HOUR, step_id="wait", why=Why.WAIT)
    assert left.effect == End(outcome=Outcome.EXITED, reason="quiet")


def test_a_goal_ends_only_those_whose_version_says_so() -> None:
    reached = known(goal_reached=True)

    assert advance(journey(on_goal=True), at("wait"), reached, NOON).effect == End(
        outcome=Outcome.GOAL_REACHED, reason="goal"
    )
    assert advance(journey(), at("wait"), reached, NOON).still_waiting


def test_the_end_of_the_journey_comes_before_the_goal_before_rules_before_the_longest_time() -> None:
    version = journey(rule("pro", PRO), on_goal=True, max_duration=DAY)
    everything: dict[str, Any] = {"goal_reached": True, "closed": JOURNEY_ARCHIVED}
    late = NOON + 2 * DAY

    def outcome(attributes: dict[str, Any], **more: Any) -> Outcome:
        effect = advance(version, at("wait"), known(attributes, **more), late).effect
        assert isinstance(effect, End)
        return effect.outcome

    assert outcome({"tier": "pro"}, **everything) is Outcome.CANCELED
    assert outcome({"tier": "pro"}, goal_reached=True) is Outcome.GOAL_REACHED
    assert outcome({"tier": "pro"}) is Outcome.EXITED
    assert outcome({}) is Outcome.EXPIRED


def test_a_journey_that_ended_cancels_also_at_an_exit() -> None:
    closed = known(closed=JOURNEY_ARCHIVED)

    decision = advance(journey(), at("hello"), closed, NOON, Done(result=Result.FAILED, reason="refused"))

    assert [(v.step_id, v.result, v.reason) for v in decision.visits] == [("hello", Result.FAILED, "refused")]
    assert decision.effect == End(outcome=Outcome.CANCELED, reason=JOURNEY_ARCHIVED)
