"""What executions wait for: which events count, by which keys, and what they have to be told of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.conditions import (
    ANY_EVENT,
    ATTRIBUTES,
    GATES,
    PREFERENCES,
    event_topic,
    flip,
    happenings,
    holds,
    is_about_segments,
    key_in,
    mark_of,
    matches,
    segment_topic,
    topics,
)
from orchestrator.domain.journey import (
    Arm,
    AttributeDate,
    Branch,
    Changed,
    Condition,
    Definition,
    Exit,
    ExitRule,
    Happened,
    OnBlocked,
    Send,
    Step,
    TimeOfDay,
    Wait,
    WaitFor,
    WaitUntil,
)
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Everyone, InCohort, Predicate
from tests.conformance.worlds import Happened as Event
from tests.conformance.worlds import World, facts_for

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: A step that asks for nothing itself.
PAUSE = Wait(id="pause", duration=HOUR, next="bye")


def definition(*steps: Step, rules: tuple[ExitRule, ...] = (), on_goal: bool = False) -> Definition:
    return Definition(
        audience_id=None,
        trigger_contract_id=None,
        reentry=None,
        max_duration=None,
        steps={step.id: step for step in steps},
        exit_rules=rules,
        exit_on_goal=on_goal,
    )


def read(document: dict[str, Any], about: About = About.EXECUTION) -> Predicate:
    predicate, faults = parse(document, about=about)
    assert predicate is not None, faults
    return predicate


def wait_for(condition: Condition) -> WaitFor:
    return WaitFor(id="wait", condition=condition, timeout=None, next="bye", otherwise="bye")


@pytest.mark.parametrize(
    ("value", "key"),
    [("o1", "o1"), ("7", "7"), (7, "7"), (7.0, "7"), (-0.0, "0"), (2.5, "2.5"), (1e21, "1" + "0" * 21),
     (10**400, "1" + "0" * 400),
     (True, "true"), (False, "false"), ("true", "true"), ("k" * 512, "k" * 512),
     ("k" * 513, None), ("", None), (None, None), ([], None), ({"a": 1}, None)],
    ids=lambda value: str(value)[:12],
)  # fmt: skip
def test_a_key_is_what_the_value_is_in_json(value: Any, key: str | None) -> None:
    assert key_in({"order": {"id": value}}, ("order", "id")) == key


def test_where_there_is_nothing_there_is_no_key() -> None:
    assert key_in({}, ("order",)) is None
    assert key_in({"order": [1]}, ("order", "0")) is None


def test_an_event_counts_by_the_key_of_the_entry_and_by_its_properties() -> None:
    large = read({"kind": "attribute", "fieldPath": "amount", "operator": "gte", "value": 100}, About.EVENT)
    any_of_them = Happened(event_name="paid")
    keyed = replace(any_of_them, entry_key_path=("order", "id"))
    choosy = replace(keyed, where=large)
    paid = {"order": {"id": 7}, "amount": 100}

    assert matches(any_of_them, "other", {}, NOON)
    assert matches(keyed, "7", paid, NOON)
    assert not matches(keyed, "8", paid, NOON)
    assert not matches(keyed, "7", {"order": {"id": None}}, NOON)
    assert matches(choosy, "7", paid, NOON)
    assert not matches(choosy, "7", paid | {"amount": 99}, NOON)
    assert not matches(choosy, "8", paid, NOON)


def test_an_event_without_a_key_never_counts_for_an_entry_by_key() -> None:
    assert not matches(Happened(event_name="paid", entry_key_path=("order",)), "", {}, NOON)


def test_what_is_looked_back_for_is_named_by_rule_and_step() -> None:
    bought, viewed = Happened(event_name="buy"), Happened(event_name="view")
    version = definition(
        wait_for(viewed),
        Exit(id="bye", reason="x"),
        rules=(ExitRule(id="wait", condition=bought), ExitRule(id="all", condition=Everyone())),
    )

    assert happenings(version) == {"rule:wait": bought, "step:wait": viewed}


def test_time_alone_turns_neither_events_nor_changes() -> None:
    assert flip(Happened(event_name="buy"), facts_for(Everyone(), World()), NOON) is None
    assert flip(Changed(path=("x",)), facts_for(Everyone(), World()), NOON) is None


def test_a_mark_says_nothing_of_the_value() -> None:
    mark = mark_of(Changed(path=("email",)), facts_for(Everyone(), World(attributes={"email": "ada@example.com"})))

    assert len(mark) == 16
    assert "ada" not in mark


# Topics.

LEAVES: list[tuple[dict[str, Any], set[str]]] = [
    ({"kind": "everyone"}, set()),
    ({"kind": "event_fired", "eventName": "buy"}, {event_topic("buy")}),
    ({"kind": "event_not_fired", "eventName": "a:b"}, {event_topic("a:b")}),
    ({"kind": "any_event", "window": {"type": "last", "duration": "1h"}}, {ANY_EVENT}),
    ({"kind": "attribute", "fieldPath": "tier", "operator": "exists"}, {ATTRIBUTES}),
    ({"kind": "attribute", "fieldPath": "$subject.time_zone", "operator": "exists"}, {ATTRIBUTES}),
    ({"kind": "attribute", "fieldPath": "$subject.last_event_at", "operator": "exists"}, {ANY_EVENT}),
    ({"kind": "attribute", "fieldPath": "$subject.created_at", "operator": "within", "value": "1h"}, set()),
    ({"kind": "attribute", "fieldPath": "$entry.amount", "operator": "exists"}, set()),
    ({"kind": "in_cohort", "cohortId": "vip"}, {segment_topic("vip")}),
]  # fmt: skip


@pytest.mark.parametrize(("leaf", "told"), LEAVES, ids=lambda value: str(value)[:60])
def test_an_execution_is_told_of_what_its_conditions_ask_about(leaf: dict[str, Any], told: set[str]) -> None:
    predicate = read({"kind": "and", "clauses": [leaf, {"kind": "not", "clause": leaf}]})
    rule = ExitRule(id="rule", condition=predicate)

    assert topics(definition(), wait_for(predicate), None) == told
    assert topics(definition(rules=(rule,)), PAUSE, None) == told
    assert topics(definition(), PAUSE, None) == set()


def test_an_execution_is_told_of_events_changes_dates_and_its_goal() -> None:
    send = Send(id="send", communication_id="hello", on_blocked=OnBlocked.SKIP, next="bye")
    vip = InCohort(cohort_id="vip")
    branch = Branch(id="b", arms=(Arm(id="vip", when=vip, next="bye"),), otherwise="bye")
    rule = ExitRule(id="rule", condition=Happened(event_name="buy"))

    assert topics(definition(), wait_for(Happened(event_name="buy")), None) == {event_topic("buy")}
    assert topics(definition(), wait_for(Changed(path=("x",))), None) == {ATTRIBUTES}
    for until in (TimeOfDay(clock=time(9)), AttributeDate(path=("due",), offset=HOUR)):
        assert topics(definition(), WaitUntil(id="w", until=until, next="bye"), None) == {ATTRIBUTES}
    assert topics(definition(rules=(rule,)), send, None, sleeps=False) == {event_topic("buy")}
    assert topics(definition(), branch, None) == {segment_topic("vip")}
    assert topics(definition(on_goal=True), send, "goal", sleeps=False) == {event_topic("goal")}
    assert topics(definition(on_goal=True), send, None, sleeps=False) == set()
    assert topics(definition(), send, "goal", sleeps=False) == set()
    assert topics(definition(), send, "goal") == {PREFERENCES, ATTRIBUTES, GATES}


def test_at_an_exit_nobody_is_told_anything() -> None:
    rule = ExitRule(id="rule", condition=Happened(event_name="buy"))

    assert topics(definition(rules=(rule,), on_goal=True), Exit(id="bye", reason="x"), "goal") == set()


def test_topics_of_segments_can_be_told_from_those_of_events() -> None:
    assert is_about_segments(segment_topic("vip"))
    assert not is_about_segments(event_topic("segment:vip"))
    assert not is_about_segments(ATTRIBUTES)


_LEAVES = st.sampled_from(
    [leaf for leaf, _ in LEAVES]
    + [
        {"kind": "event_fired", "eventName": "view", "atLeast": 2, "window": {"type": "last_n_days", "days": 1}},
        {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"},
        {"kind": "attribute", "fieldPath": "seen", "operator": "within", "value": "1h"},
        {"kind": "attribute", "fieldPath": "$subject.time_zone", "operator": "equals", "value": "UTC"},
        {"kind": "attribute", "fieldPath": "$subject.last_event_at", "operator": "within", "value": "1h"},
        {"kind": "in_cohort", "cohortId": "trial"},
    ]
)
_TREES = st.recursive(
    _LEAVES,
    lambda trees: st.one_of(
        st.builds(
            lambda kind, clauses: {"kind": kind, "clauses": clauses},
            st.sampled_from(["and", "or"]),
            st.lists(trees, min_size=1, max_size=3),
        ),
        st.builds(lambda clause: {"kind": "not", "clause": clause}, trees),
    ),
    max_leaves=5,
)
_EVENTS = st.lists(
    st.builds(lambda minutes: Event(NOON - timedelta(minutes=minutes)), st.sampled_from([0, 30, 90, 3000])), max_size=2
)
_WORLDS = st.builds(
    World,
    attributes=st.fixed_dictionaries(
        {}, optional={"tier": st.sampled_from(["pro", None]), "seen": st.just("2026-03-03T11:30:00Z")}
    ),
    events=st.fixed_dictionaries({}, optional={"buy": _EVENTS, "view": _EVENTS, "a:b": _EVENTS}),
    cohorts=st.frozensets(st.sampled_from(["vip", "trial"])),
    known_cohorts=st.just(frozenset({"vip", "trial"})),
    time_zone=st.sampled_from([None, "UTC"]),
)


def _with(world: World, other: World, topic: str) -> World:
    """The first world, with what this topic tells of as it is in the other."""
    if topic == ATTRIBUTES:
        return replace(world, attributes=other.attributes, time_zone=other.time_zone)
    if is_about_segments(topic):
        mine = frozenset({topic.partition(":")[2]})
        return replace(world, cohorts=(world.cohorts - mine) | (other.cohorts & mine))
    name = topic.partition(":")[2]
    return replace(world, events={**world.events, name: other.events.get(name, [])})


@given(document=_TREES, world=_WORLDS, other=_WORLDS, data=st.data())
def test_whatever_can_change_the_answer_is_told(
    document: dict[str, Any], world: World, other: World, data: st.DataObject
) -> None:
    """One thing of the world becomes another. If the answer does too, the execution was told."""
    predicate = read(document)
    happened = data.draw(
        st.sampled_from([ATTRIBUTES, *map(segment_topic, ("vip", "trial")), *map(event_topic, ("buy", "view", "a:b"))])
    )
    news = {happened} | ({ANY_EVENT} if happened.startswith("event:") else set())
    before, after = (facts_for(predicate, one) for one in (world, _with(world, other, happened)))

    if evaluate(predicate, before, NOON) != evaluate(predicate, after, NOON):
        assert topics(definition(), wait_for(predicate), None) & news
        assert topics(definition(rules=(ExitRule(id="r", condition=predicate),)), PAUSE, None) & news


@given(document=_TREES, world=_WORLDS, minutes=st.integers(1, 5000))
def test_until_its_flip_an_answer_stays(document: dict[str, Any], world: World, minutes: int) -> None:
    predicate = read(document)
    subject = facts_for(predicate, world)
    later = NOON + timedelta(minutes=minutes)
    turn = flip(predicate, subject, NOON)

    if turn is None or later < turn:
        assert holds(predicate, subject, None, NOON, None, later) == holds(predicate, subject, None, NOON, None, NOON)
