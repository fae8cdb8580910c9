from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.journey import (
    Arm,
    Branch,
    Definition,
    Exit,
    OnBlocked,
    Reentry,
    ReentryKind,
    Send,
    Wait,
)
from orchestrator.domain.journey_form import ONE_EXIT, digest, parse
from orchestrator.predicates.tree import EventFired, Ever, Source

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
            "nudge": Send(id="nudge", communication_id="nudge", on_blocked=OnBlocked.SKIP, next="done"),
            "done": Exit(id="done", reason="finished"),
        },
    )
    assert definition is not None
    assert definition.first_step_id == "welcome"


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
        ]
    }

    definition, faults = parse(unfinished)

    assert faults == []
    assert definition is not None
    assert definition.steps["a"] == Send(id="a", communication_id="", on_blocked=OnBlocked.SKIP, next="")


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
        (with_step({"id": "a", "wait": {}}), [("steps[0].wait.duration", "REQUIRED")]),
        (with_step({"id": "a", "wait": {"duration": 3}}), [("steps[0].wait.duration", "INVALID_TYPE")]),
        (with_step({"id": "a", "wait": {"duration": "soon"}}), [("steps[0].wait.duration", "INVALID_VALUE")]),
        (with_step({"id": "a", "wait": {"duration": "0s"}}), [("steps[0].wait.duration", "OUT_OF_RANGE")]),
        (with_step({"id": "a", "wait": {"duration": "731d"}}), [("steps[0].wait.duration", "OUT_OF_RANGE")]),
        (with_step({"id": "a", "send": {"onBlocked": "wait"}}), [("steps[0].send.onBlocked", "UNKNOWN_ENUM_VALUE")]),
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
    ["steps", "id", "next", "send", "wait", "branch", "exit", "arms", "when", "duration", "reentry", "policy", "kind"]
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
