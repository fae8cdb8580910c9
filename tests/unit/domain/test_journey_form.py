from __future__ import annotations

from copy import deepcopy
from datetime import time, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.journey import (
    After,
    Arm,
    AttributeDate,
    Branch,
    Changed,
    Definition,
    Exit,
    ExitRule,
    Happened,
    OnBlocked,
    Reentry,
    ReentryKind,
    Send,
    Split,
    SplitArm,
    TimeOfDay,
    Wait,
    WaitFor,
    WaitUntil,
)
from orchestrator.domain.journey_form import ONE_EXIT, digest, parse
from orchestrator.predicates.tree import Attribute, EventFired, Ever, Operator, Source

PURCHASED = {"kind": "event_fired", "eventName": "purchase"}

WELCOME: dict[str, Any] = {
    "audienceId": "recent-buyers",
    "triggerContractId": "purchase-made",
    "reentry": {"policy": "interval", "interval": "1w"},
    "maxDurationDays": 30,
    "steps": [
        {"id": "welcome", "send": {"communicationId": "welcome", "onBlocked": "exit"}, "next": "pause"},
        {"id": "pause", "wait": {"duration": "1d12h"}, "next": "check"},
        {
            "id": "check",
            "branch": {"arms": [{"id": "bought", "when": PURCHASED, "next": "done"}], "otherwise": "nudge"},
        },
        {"id": "nudge", "send": {"communicationId": "nudge"}, "next": "done"},
        {"id": "done", "exit": {"reason": "finished"}},
    ],
}


def faults_of(document: object, path: str = "") -> list[tuple[str, str]]:
    definition, faults = parse(document, path)
    assert (definition is None) == bool(faults)
    return [(fault.path, fault.reason) for fault in faults]


def with_step(step: object) -> dict[str, Any]:
    return {"steps": [step]}


def test_a_whole_definition_is_read() -> None:
    definition, faults = parse(WELCOME)

    assert faults == []
    when = EventFired(source=Source(name="purchase"), window=Ever(), at_least=1, negated=False)
    assert definition == Definition(
        audience_id="recent-buyers",
        trigger_contract_id="purchase-made",
        reentry=Reentry(kind=ReentryKind.INTERVAL, interval=timedelta(days=7)),
        max_duration=timedelta(days=30),
        steps={
            "welcome": Send(id="welcome", communication_id="welcome", on_blocked=OnBlocked.EXIT, next="pause"),
            "pause": Wait(id="pause", duration=timedelta(days=1, hours=12), next="check"),
            "check": Branch(id="check", arms=(Arm(id="bought", when=when, next="done"),), otherwise="nudge"),
            "nudge": Send(id="nudge", communication_id="nudge", on_blocked=None, next="done"),
            "done": Exit(id="done", reason="finished"),
        },
    )
    assert definition is not None
    assert definition.first_step_id == "welcome"


LARGE = {"kind": "attribute", "fieldPath": "amount", "operator": "eq", "value": 100}


def step_of(**kind: Any) -> Any:
    """The one step of this kind, as it is read."""
    definition, faults = parse(with_step({"id": "s", "next": "n", **kind}))
    assert faults == []
    assert definition is not None
    return definition.steps["s"]


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        ({"duration": "90m"}, Wait(id="s", next="n", duration=timedelta(minutes=90))),
        ({"timeOfDay": {"time": "09:30"}}, TimeOfDay(clock=time(9, 30))),
        ({"timeOfDay": {"time": "00:00:00", "weekdays": []}}, TimeOfDay(clock=time())),
        (
            {"timeOfDay": {"time": "23:59:59", "weekdays": ["sunday", "monday"]}},
            TimeOfDay(clock=time(23, 59, 59), weekdays=frozenset({0, 6})),
        ),
        ({"date": {"fieldPath": "renewal"}}, AttributeDate(path=("renewal",), offset=timedelta(0))),
        (
            {"date": {"fieldPath": "contract.renewal", "before": "3d", "time": "09:30"}},
            AttributeDate(path=("contract", "renewal"), offset=timedelta(days=-3), clock=time(9, 30)),
        ),
        ({"date": {"fieldPath": "born", "after": "730d"}}, AttributeDate(path=("born",), offset=timedelta(days=730))),
    ],
)
def test_a_wait_ends_after_a_while_at_a_time_or_on_a_date(wait: dict[str, Any], expected: Any) -> None:
    if not isinstance(expected, Wait):
        expected = WaitUntil(id="s", next="n", until=expected)

    assert step_of(wait=wait) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"event": {"eventName": "reply"}}, Happened(event_name="reply")),
        ({"event": {"eventName": "reply", "after": "entry"}}, Happened(event_name="reply")),
        (
            {"event": {"eventName": "reply", "where": LARGE, "entryKeyPath": "order.id", "after": "step"}},
            Happened(
                event_name="reply",
                where=Attribute(path=("amount",), operator=Operator.EQUALS, value=100),
                entry_key_path=("order", "id"),
                after=After.STEP,
            ),
        ),
        ({"changed": {"fieldPath": "plan.name"}}, Changed(path=("plan", "name"))),
        ({"when": PURCHASED}, EventFired(source=Source(name="purchase"), window=Ever(), at_least=1, negated=False)),
    ],
)
def test_a_wait_for_something_has_one_condition(condition: dict[str, Any], expected: Any) -> None:
    for_ever = WaitFor(id="s", condition=expected, timeout=None, next="n", otherwise="")
    for_a_while = WaitFor(id="s", condition=expected, timeout=timedelta(days=3), next="n", otherwise="o")

    assert step_of(waitFor=condition) == for_ever
    assert step_of(waitFor={**condition, "timeout": "3d", "otherwise": "o"}) == for_a_while


def test_what_is_waited_for_may_ask_for_the_triggering_event() -> None:
    step = step_of(waitFor={"when": {**LARGE, "fieldPath": "$entry.amount"}})

    assert step.condition.path == ("$entry", "amount")


def test_a_split_has_weights_and_perhaps_a_salt() -> None:
    arms = [{"id": "a", "weight": 1, "next": "x"}, {"id": "otherwise", "weight": 1_000_000.0}]
    read = (SplitArm(id="a", weight=1, next="x"), SplitArm(id="otherwise", weight=1_000_000, next=""))

    assert step_of(next=None, split={"arms": arms}) == Split(id="s", arms=read)
    assert step_of(next=None, split={"arms": arms, "salt": ""}) == Split(id="s", arms=read)
    assert step_of(next=None, split={"arms": arms, "salt": "spring"}) == Split(id="s", arms=read, salt="spring")


def test_exit_rules_have_a_predicate_or_an_event() -> None:
    definition, faults = parse(
        {
            "exitOnGoal": True,
            "exitRules": [
                {"id": "bought", "when": PURCHASED},
                {"id": "left", "event": {"eventName": "left", "after": "entry"}},
            ],
        }
    )

    assert faults == []
    assert definition is not None
    assert definition.exit_on_goal
    when = EventFired(source=Source(name="purchase"), window=Ever(), at_least=1, negated=False)
    assert definition.exit_rules == (
        ExitRule(id="bought", condition=when),
        ExitRule(id="left", condition=Happened(event_name="left")),
    )


def test_what_may_be_left_out_has_its_default() -> None:
    definition, faults = parse({})

    assert faults == []
    assert definition == Definition(
        audience_id=None, trigger_contract_id=None, reentry=None, max_duration=None, steps={}
    )


def test_a_null_is_as_good_as_nothing() -> None:
    nulls = {
        "audienceId": None,
        "triggerContractId": None,
        "reentry": None,
        "maxDurationDays": None,
        "steps": [{"id": "a", "next": None, "send": None, "exit": {"reason": None}}],
    }

    definition, faults = parse(nulls)

    assert faults == []
    assert definition is not None
    assert definition.steps == {"a": Exit(id="a", reason="finished")}


def test_communications_are_followed_live_only_where_somebody_says_so() -> None:
    read = [parse({**ONE_EXIT, "followLiveCommunications": value})[0] for value in (True, False, None)]

    assert [definition and definition.follow_live_communications for definition in read] == [True, False, False]


def test_what_a_new_journey_starts_from_can_be_read() -> None:
    assert faults_of(ONE_EXIT) == []


def test_a_draft_may_leave_references_open() -> None:
    unfinished = {
        "steps": [
            {"id": "a", "send": {}},
            {"id": "b", "wait": {"duration": "1h"}},
            {"id": "c", "branch": {"arms": [{"id": "yes", "when": PURCHASED}]}},
            {"id": "d", "waitFor": {"when": PURCHASED, "timeout": "1h"}},
            {"id": "e", "split": {"arms": [{"id": "all", "weight": 1}]}},
        ]
    }

    definition, faults = parse(unfinished)

    assert faults == []
    assert definition is not None
    assert definition.steps["a"] == Send(id="a", communication_id="", on_blocked=None, next="")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], [("", "INVALID_TYPE")]),
        ("x", [("", "INVALID_TYPE")]),
        ({"stepz": []}, [("stepz", "UNKNOWN_FIELD")]),
        ({"steps": {}}, [("steps", "INVALID_TYPE")]),
        ({"audienceId": 7}, [("audienceId", "INVALID_TYPE")]),
        ({"audienceId": "has space"}, [("audienceId", "INVALID_ID")]),
        ({"followLiveCommunications": "yes"}, [("followLiveCommunications", "INVALID_TYPE")]),
        ({"followLiveCommunications": 1}, [("followLiveCommunications", "INVALID_TYPE")]),
        ({"startsAt": 5}, [("startsAt", "INVALID_TYPE")]),
        (
            {"startsAt": "tomorrow", "endsAt": "2026-03-01"},
            [("startsAt", "INVALID_VALUE"), ("endsAt", "INVALID_VALUE")],
        ),
        (
            {"startsAt": "2026-03-01T12:00:00Z", "endsAt": "2026-03-01T13:00:00+01:00"},
            [("endsAt", "INVALID_VALUE")],
        ),
        ({"maxDurationDays": 0}, [("maxDurationDays", "OUT_OF_RANGE")]),
        ({"maxDurationDays": 366}, [("maxDurationDays", "OUT_OF_RANGE")]),
        ({"maxDurationDays": 1.5}, [("maxDurationDays", "INVALID_TYPE")]),
        ({"maxDurationDays": True}, [("maxDurationDays", "INVALID_TYPE")]),
        ({"maxDurationDays": float("nan")}, [("maxDurationDays", "INVALID_TYPE")]),
        ({"reentry": {}}, [("reentry.policy", "REQUIRED")]),
        ({"reentry": {"policy": "twice"}}, [("reentry.policy", "UNKNOWN_ENUM_VALUE")]),
        ({"reentry": {"policy": "interval"}}, [("reentry.interval", "REQUIRED")]),
        ({"reentry": {"policy": "once", "interval": "1d"}}, [("reentry.interval", "INVALID_VALUE")]),
        ({"reentry": {"policy": "interval", "interval": "0s"}}, [("reentry.interval", "OUT_OF_RANGE")]),
        (with_step("x"), [("steps[0]", "INVALID_TYPE")]),
        (with_step({}), [("steps[0].id", "REQUIRED"), ("steps[0]", "REQUIRED")]),
        (with_step({"id": "a"}), [("steps[0]", "REQUIRED")]),
        (with_step({"id": "a b", "exit": {}}), [("steps[0].id", "INVALID_ID")]),
        (with_step({"id": "a" * 129, "exit": {}}), [("steps[0].id", "INVALID_ID")]),
        (with_step({"id": 1, "exit": {}}), [("steps[0].id", "INVALID_TYPE")]),
        (with_step({"id": "a", "exit": {}, "wait": {"duration": "1s"}}), [("steps[0]", "INVALID_VALUE")]),
        (with_step({"id": "a", "exit": {}, "next": "b"}), [("steps[0].next", "INVALID_VALUE")]),
        (with_step({"id": "a", "exit": {"reason": ""}}), [("steps[0].exit.reason", "REQUIRED")]),
        (with_step({"id": "a", "exit": {"reason": "x" * 201}}), [("steps[0].exit.reason", "TOO_LONG")]),
        (with_step({"id": "a", "exit": []}), [("steps[0].exit", "INVALID_TYPE")]),
        (with_step({"id": "a", "teleport": {}}), [("steps[0].teleport", "UNKNOWN_FIELD"), ("steps[0]", "REQUIRED")]),
        (with_step({"id": "a", "wait": {}}), [("steps[0].wait", "REQUIRED")]),
        (with_step({"id": "a", "wait": {"duration": None}}), [("steps[0].wait", "REQUIRED")]),
        (with_step({"id": "a", "wait": "1d"}), [("steps[0].wait", "INVALID_TYPE")]),
        (
            with_step({"id": "a", "wait": {"duration": "1d", "timeOfDay": {"time": "09:30"}}}),
            [("steps[0].wait", "INVALID_VALUE")],
        ),
        (with_step({"id": "a", "wait": {"duration": 3}}), [("steps[0].wait.duration", "INVALID_TYPE")]),
        (with_step({"id": "a", "wait": {"duration": "soon"}}), [("steps[0].wait.duration", "INVALID_VALUE")]),
        (with_step({"id": "a", "wait": {"duration": "0s"}}), [("steps[0].wait.duration", "OUT_OF_RANGE")]),
        (with_step({"id": "a", "wait": {"duration": "731d"}}), [("steps[0].wait.duration", "OUT_OF_RANGE")]),
        (with_step({"id": "a", "send": {"onBlocked": "hold"}}), [("steps[0].send.onBlocked", "UNKNOWN_ENUM_VALUE")]),
        (
            with_step({"id": "a", "send": {"onBlocked": "skip", "waitAtMost": "1h"}}),
            [("steps[0].send.waitAtMost", "INVALID_VALUE")],
        ),
        (
            with_step({"id": "a", "send": {"sendWindow": {"start": "9", "weekdays": ["noday"], "zone": "UTC"}}}),
            [
                ("steps[0].send.sendWindow.zone", "UNKNOWN_FIELD"),
                ("steps[0].send.sendWindow.start", "INVALID_VALUE"),
                ("steps[0].send.sendWindow.end", "REQUIRED"),
                ("steps[0].send.sendWindow.weekdays[0]", "UNKNOWN_ENUM_VALUE"),
            ],
        ),
        ({**ONE_EXIT, "sendWindow": {"start": "09:00", "end": "09:00"}}, [("sendWindow.end", "INVALID_VALUE")]),
        (
            {**ONE_EXIT, "holdout": {"percent": 100, "salt": 7}},
            [
                ("holdout.salt", "INVALID_TYPE"),
                ("holdout.percent", "OUT_OF_RANGE"),
            ],
        ),
        ({**ONE_EXIT, "holdout": {}}, [("holdout.percent", "REQUIRED")]),
        (with_step({"id": "a", "branch": {}}), [("steps[0].branch.arms", "REQUIRED")]),
        (with_step({"id": "a", "branch": {"arms": []}}), [("steps[0].branch.arms", "REQUIRED")]),
        (with_step({"id": "a", "branch": {"arms": {}}}), [("steps[0].branch.arms", "INVALID_TYPE")]),
        (
            with_step({"id": "a", "branch": {"arms": [{"when": PURCHASED}]}}),
            [("steps[0].branch.arms[0].id", "REQUIRED")],
        ),
        (with_step({"id": "a", "branch": {"arms": [{"id": "x"}]}}), [("steps[0].branch.arms[0].when", "REQUIRED")]),
        (
            with_step({"id": "a", "branch": {"arms": [{"id": "otherwise", "when": PURCHASED}]}}),
            [("steps[0].branch.arms[0].id", "INVALID_ID")],
        ),
        (
            with_step(
                {"id": "a", "branch": {"arms": [{"id": "x", "when": PURCHASED}, {"id": "x", "when": PURCHASED}]}}
            ),
            [("steps[0].branch.arms[1].id", "DUPLICATE_ID")],
        ),
        (
            {"steps": [{"id": "a", "exit": {}}, {"id": "a", "exit": {}}]},
            [("steps[1].id", "DUPLICATE_ID")],
        ),
        (
            {"steps": [{"id": f"s{number}", "exit": {}} for number in range(501)]},
            [("steps", "TOO_LARGE")],
        ),
    ],
)
def test_a_fault_is_named_with_its_path(document: object, expected: list[tuple[str, str]]) -> None:
    assert faults_of(document) == expected


@pytest.mark.parametrize(
    ("time_of_day", "expected"),
    [
        ("09:30", [("", "INVALID_TYPE")]),
        ({}, [(".time", "REQUIRED")]),
        ({"time": None, "weekdays": None}, [(".time", "REQUIRED")]),
        ({"time": 930}, [(".time", "INVALID_TYPE")]),
        ({"time": ""}, [(".time", "INVALID_VALUE")]),
        ({"time": "9:30"}, [(".time", "INVALID_VALUE")]),
        ({"time": "24:00"}, [(".time", "INVALID_VALUE")]),
        ({"time": "23:60"}, [(".time", "INVALID_VALUE")]),
        ({"time": "23:59:60"}, [(".time", "INVALID_VALUE")]),
        ({"time": "09:30 "}, [(".time", "INVALID_VALUE")]),
        ({"time": "09:30\n"}, [(".time", "INVALID_VALUE")]),
        ({"time": "٠٩:٣٠"}, [(".time", "INVALID_VALUE")]),
        ({"time": "09:30+01:00"}, [(".time", "INVALID_VALUE")]),
        ({"time": "09:30", "zone": "UTC"}, [(".zone", "UNKNOWN_FIELD")]),
        ({"time": "09:30", "weekdays": "monday"}, [(".weekdays", "INVALID_TYPE")]),
        ({"time": "09:30", "weekdays": ["Monday"]}, [(".weekdays[0]", "UNKNOWN_ENUM_VALUE")]),
        ({"time": "09:30", "weekdays": ["monday", 2]}, [(".weekdays[1]", "INVALID_TYPE")]),
        ({"time": "09:30", "weekdays": [None]}, [(".weekdays[0]", "REQUIRED")]),
        ({"time": "09:30", "weekdays": ["monday", "friday", "monday"]}, [(".weekdays[2]", "INVALID_VALUE")]),
        ({"time": "09:30", "weekdays": ["monday"] * 8}, [(".weekdays", "TOO_LARGE")]),
    ],
)
def test_faults_of_a_time_of_day(time_of_day: object, expected: list[tuple[str, str]]) -> None:
    faults = faults_of(with_step({"id": "a", "wait": {"timeOfDay": time_of_day}}))

    assert faults == [(f"steps[0].wait.timeOfDay{path}", reason) for path, reason in expected]


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("renewal", [("", "INVALID_TYPE")]),
        ({}, [(".fieldPath", "FIELD_PATH_REQUIRED")]),
        ({"fieldPath": " "}, [(".fieldPath", "FIELD_PATH_REQUIRED")]),
        ({"fieldPath": 7}, [(".fieldPath", "INVALID_TYPE")]),
        ({"fieldPath": "a..b"}, [(".fieldPath", "INVALID_VALUE")]),
        ({"fieldPath": "a\\b"}, [(".fieldPath", "INVALID_VALUE")]),
        ({"fieldPath": "$entry.departure"}, [(".fieldPath", "LEAF_NOT_ALLOWED")]),
        ({"fieldPath": "$subject.created_at"}, [(".fieldPath", "LEAF_NOT_ALLOWED")]),
        ({"fieldPath": "$steps.a"}, [(".fieldPath", "LEAF_NOT_ALLOWED")]),
        ({"fieldPath": "a" * 8193}, [(".fieldPath", "TOO_LARGE")]),
        ({"fieldPath": "a", "before": "1d", "after": "1d"}, [("", "INVALID_VALUE")]),
        ({"fieldPath": "a", "before": "0s"}, [(".before", "OUT_OF_RANGE")]),
        ({"fieldPath": "a", "after": "731d"}, [(".after", "OUT_OF_RANGE")]),
        ({"fieldPath": "a", "after": "-1d"}, [(".after", "INVALID_VALUE")]),
        ({"fieldPath": "a", "after": 3}, [(".after", "INVALID_TYPE")]),
        ({"fieldPath": "a", "time": "noon"}, [(".time", "INVALID_VALUE")]),
        ({"fieldPath": "a", "offset": "1d"}, [(".offset", "UNKNOWN_FIELD")]),
    ],
)
def test_faults_of_a_date(date: object, expected: list[tuple[str, str]]) -> None:
    faults = faults_of(with_step({"id": "a", "wait": {"date": date}}))

    assert faults == [(f"steps[0].wait.date{path}", reason) for path, reason in expected]


REPLIED = {"eventName": "reply"}


@pytest.mark.parametrize(
    ("wait_for", "expected"),
    [
        ([], [("", "INVALID_TYPE")]),
        ({}, [("", "REQUIRED")]),
        ({"timeout": "1d", "otherwise": "b"}, [("", "REQUIRED")]),
        ({"when": None, "event": None}, [("", "REQUIRED")]),
        ({"when": PURCHASED, "event": REPLIED}, [("", "INVALID_VALUE")]),
        ({"event": REPLIED, "changed": {"fieldPath": "a"}, "when": PURCHASED}, [("", "INVALID_VALUE")]),
        ({"event": REPLIED, "until": "x"}, [(".until", "UNKNOWN_FIELD")]),
        ({"event": REPLIED, "timeout": "0s", "otherwise": "b"}, [(".timeout", "OUT_OF_RANGE")]),
        ({"event": REPLIED, "timeout": "731d", "otherwise": "b"}, [(".timeout", "OUT_OF_RANGE")]),
        ({"event": REPLIED, "timeout": True, "otherwise": "b"}, [(".timeout", "INVALID_TYPE")]),
        ({"event": REPLIED, "otherwise": "b"}, [(".otherwise", "INVALID_VALUE")]),
        ({"event": REPLIED, "timeout": "1d", "otherwise": "b c"}, [(".otherwise", "INVALID_ID")]),
        # What is empty is no predicate, and never everybody.
        ({"when": {}}, [(".when.kind", "UNKNOWN_KIND")]),
        ({"when": []}, [(".when", "INVALID_VALUE")]),
        ({"when": {"kind": "and", "clauses": []}}, [(".when.clauses", "EMPTY_CLAUSES")]),
        ({"event": {**REPLIED, "where": {}}}, [(".event.where.kind", "UNKNOWN_KIND")]),
        ({"event": {**REPLIED, "where": {"kind": "or"}}}, [(".event.where.clauses", "EMPTY_CLAUSES")]),
        ({"event": "reply"}, [(".event", "INVALID_TYPE")]),
        ({"event": {}}, [(".event.eventName", "EVENT_NAME_REQUIRED")]),
        ({"event": {"eventName": ""}}, [(".event.eventName", "EVENT_NAME_REQUIRED")]),
        ({"event": {"eventName": " "}}, [(".event.eventName", "INVALID_VALUE")]),
        ({"event": {"eventName": "a\tb"}}, [(".event.eventName", "INVALID_VALUE")]),
        ({"event": {"eventName": 7}}, [(".event.eventName", "INVALID_TYPE")]),
        ({"event": {"eventName": "x" * 129}}, [(".event.eventName", "TOO_LONG")]),
        ({"event": {**REPLIED, "where": PURCHASED}}, [(".event.where.kind", "LEAF_NOT_ALLOWED")]),
        (
            {"event": {**REPLIED, "where": {"kind": "in_cohort", "cohortId": "vip"}}},
            [(".event.where.kind", "LEAF_NOT_ALLOWED")],
        ),
        (
            {"event": {**REPLIED, "where": {**LARGE, "fieldPath": "$entry.amount"}}},
            [(".event.where.fieldPath", "LEAF_NOT_ALLOWED")],
        ),
        ({"event": {**REPLIED, "entryKeyPath": ""}}, [(".event.entryKeyPath", "FIELD_PATH_REQUIRED")]),
        ({"event": {**REPLIED, "entryKeyPath": "$entry.id"}}, [(".event.entryKeyPath", "LEAF_NOT_ALLOWED")]),
        ({"event": {**REPLIED, "entryKeyPath": "a..b"}}, [(".event.entryKeyPath", "INVALID_VALUE")]),
        ({"event": {**REPLIED, "after": "never"}}, [(".event.after", "UNKNOWN_ENUM_VALUE")]),
        ({"event": {**REPLIED, "after": 1}}, [(".event.after", "INVALID_TYPE")]),
        ({"event": {**REPLIED, "window": {"type": "ever"}}}, [(".event.window", "UNKNOWN_FIELD")]),
        ({"changed": "plan"}, [(".changed", "INVALID_TYPE")]),
        ({"changed": {}}, [(".changed.fieldPath", "FIELD_PATH_REQUIRED")]),
        ({"changed": {"fieldPath": "$subject.created_at"}}, [(".changed.fieldPath", "LEAF_NOT_ALLOWED")]),
        ({"changed": {"fieldPath": "plan", "to": "pro"}}, [(".changed.to", "UNKNOWN_FIELD")]),
    ],
)
def test_faults_of_a_wait_for_something(wait_for: object, expected: list[tuple[str, str]]) -> None:
    faults = faults_of(with_step({"id": "a", "waitFor": wait_for, "next": "b"}))

    assert faults == [(f"steps[0].waitFor{path}", reason) for path, reason in expected]


ALL = {"id": "all", "weight": 1}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("x", [("", "INVALID_TYPE")]),
        ({}, [(".arms", "REQUIRED")]),
        ({"arms": []}, [(".arms", "REQUIRED")]),
        ({"arms": {}}, [(".arms", "INVALID_TYPE")]),
        ({"arms": ["all"]}, [(".arms[0]", "INVALID_TYPE")]),
        ({"arms": [ALL | {"id": f"a{number}"} for number in range(51)]}, [(".arms", "TOO_LARGE")]),
        ({"arms": [{"weight": 1}]}, [(".arms[0].id", "REQUIRED")]),
        ({"arms": [{"id": "a b", "weight": 1}]}, [(".arms[0].id", "INVALID_ID")]),
        ({"arms": [ALL, {"id": "b", "weight": 1}, ALL]}, [(".arms[2].id", "DUPLICATE_ID")]),
        ({"arms": [{"id": "a"}]}, [(".arms[0].weight", "REQUIRED")]),
        ({"arms": [ALL | {"weight": 0}]}, [(".arms[0].weight", "OUT_OF_RANGE")]),
        ({"arms": [ALL | {"weight": -1}]}, [(".arms[0].weight", "OUT_OF_RANGE")]),
        ({"arms": [ALL | {"weight": 1_000_001}]}, [(".arms[0].weight", "OUT_OF_RANGE")]),
        ({"arms": [ALL | {"weight": 0.5}]}, [(".arms[0].weight", "INVALID_TYPE")]),
        ({"arms": [ALL | {"weight": "50%"}]}, [(".arms[0].weight", "INVALID_TYPE")]),
        ({"arms": [ALL | {"weight": True}]}, [(".arms[0].weight", "INVALID_TYPE")]),
        ({"arms": [ALL | {"next": "b c"}]}, [(".arms[0].next", "INVALID_ID")]),
        ({"arms": [ALL | {"when": PURCHASED}]}, [(".arms[0].when", "UNKNOWN_FIELD")]),
        ({"arms": [ALL], "otherwise": "b"}, [(".otherwise", "UNKNOWN_FIELD")]),
        ({"arms": [ALL], "salt": 7}, [(".salt", "INVALID_TYPE")]),
        ({"arms": [ALL], "salt": "x" * 129}, [(".salt", "TOO_LONG")]),
    ],
)
def test_faults_of_a_split(split: object, expected: list[tuple[str, str]]) -> None:
    faults = faults_of(with_step({"id": "a", "split": split}))

    assert faults == [(f"steps[0].split{path}", reason) for path, reason in expected]


def test_a_split_has_no_step_that_comes_after_it() -> None:
    assert faults_of(with_step({"id": "a", "split": {"arms": [ALL]}, "next": "b"})) == [
        ("steps[0].next", "INVALID_VALUE")
    ]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, [("", "INVALID_TYPE")]),
        (["x"], [("[0]", "INVALID_TYPE")]),
        ([{"id": f"r{number}", "event": REPLIED} for number in range(21)], [("", "TOO_LARGE")]),
        ([{"id": "r"}], [("[0]", "REQUIRED")]),
        ([{"event": REPLIED}], [("[0].id", "REQUIRED")]),
        ([{"id": "r s", "event": REPLIED}], [("[0].id", "INVALID_ID")]),
        ([{"id": "r", "event": REPLIED}, {"id": "r", "when": PURCHASED}], [("[1].id", "DUPLICATE_ID")]),
        ([{"id": "r", "event": REPLIED, "when": PURCHASED}], [("[0]", "INVALID_VALUE")]),
        ([{"id": "r", "when": {}}], [("[0].when.kind", "UNKNOWN_KIND")]),
        ([{"id": "r", "when": None}], [("[0]", "REQUIRED")]),
        ([{"id": "r", "event": {}}], [("[0].event.eventName", "EVENT_NAME_REQUIRED")]),
        ([{"id": "r", "event": {**REPLIED, "after": "step"}}], [("[0].event.after", "INVALID_VALUE")]),
        ([{"id": "r", "event": {**REPLIED, "where": {}}}], [("[0].event.where.kind", "UNKNOWN_KIND")]),
        ([{"id": "r", "changed": {"fieldPath": "a"}}], [("[0].changed", "UNKNOWN_FIELD"), ("[0]", "REQUIRED")]),
    ],
)
def test_faults_of_exit_rules(rules: object, expected: list[tuple[str, str]]) -> None:
    assert faults_of({"exitRules": rules}) == [(f"exitRules{path}", reason) for path, reason in expected]


def test_leaving_with_the_goal_is_said_with_yes_or_no() -> None:
    assert faults_of({"exitOnGoal": "yes"}) == [("exitOnGoal", "INVALID_TYPE")]


def test_all_faults_are_told_together_each_under_the_callers_path() -> None:
    broken = deepcopy(WELCOME)
    broken["maxDurationDays"] = 400
    broken["steps"][1]["wait"]["duration"] = "-1s"
    broken["steps"][2]["branch"]["arms"][0]["when"] = {
        "kind": "and",
        "clauses": [PURCHASED, {"kind": "attribute", "operator": "exists"}],
    }
    broken["steps"][3]["id"] = "welcome"

    assert faults_of(broken, "journey.definition") == [
        ("journey.definition.maxDurationDays", "OUT_OF_RANGE"),
        ("journey.definition.steps[1].wait.duration", "INVALID_VALUE"),
        ("journey.definition.steps[2].branch.arms[0].when.clauses[1].fieldPath", "FIELD_PATH_REQUIRED"),
        ("journey.definition.steps[3].id", "DUPLICATE_ID"),
    ]


def test_the_longest_wait_and_the_most_steps_are_allowed() -> None:
    steps = [{"id": f"s{number}", "wait": {"duration": "730d"}} for number in range(500)]

    assert faults_of({"steps": steps}) == []


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
NAMES = st.sampled_from(
    [
        *(
            "steps",
            "id",
            "next",
            "send",
            "wait",
            "branch",
            "exit",
            "arms",
            "when",
            "duration",
            "reentry",
            "policy",
            "kind",
        ),
        *(
            "waitFor",
            "split",
            "timeOfDay",
            "date",
            "event",
            "changed",
            "time",
            "weekdays",
            "fieldPath",
            "before",
            "after",
        ),
        *(
            "updateSubject",
            "attributes",
            "emitEvent",
            "properties",
            "webhook",
            "url",
            "method",
            "headers",
            "body",
            "$path",
        ),
        *("adaptiveBranch", "nbaDecision", "context", "learning", "stickiness", "share", "paused", "minShare"),
        *("weight", "salt", "timeout", "otherwise", "exitRules", "exitOnGoal", "where", "eventName", "entryKeyPath"),
    ]
)
NEARLY = st.recursive(
    JSON, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=30
)


@given(NEARLY)
def test_whatever_is_sent_is_read_or_refused(document: object) -> None:
    definition, faults = parse(document, "definition")

    assert (definition is None) == bool(faults)
    assert all(fault.path.startswith("definition") and fault.message for fault in faults)


@given(JSON)
def test_a_digest_is_the_same_after_a_round_trip_through_json(document: object) -> None:
    assert digest(orjson.loads(orjson.dumps(document))) == digest(document)


def test_a_digest_tells_definitions_apart_but_not_the_order_of_members_or_the_spelling_of_whole_numbers() -> None:
    reordered = dict(reversed(WELCOME.items())) | {"maxDurationDays": 30.0}
    other = deepcopy(WELCOME)
    other["steps"][0]["next"] = "check"

    assert digest(reordered) == digest(WELCOME)
    assert digest(other) != digest(WELCOME)
