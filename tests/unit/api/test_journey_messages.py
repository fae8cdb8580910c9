"""Updates of journeys, from the paths they name to what they change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from orchestrator.api.convert.journeys import changes_of, new_definition
from orchestrator.api.json_decode import decode
from orchestrator.api.json_encode import encode
from orchestrator.api.message_check import check_message
from orchestrator.application.journeys import Changes
from orchestrator.v1 import journey_pb2 as pb
from orchestrator.v1.journey_service_pb2 import CreateJourneyRequest


def sent() -> pb.Journey:
    journey = pb.Journey(id="welcome", name="Hello")
    journey.goal.event_name = "purchase"
    journey.goal.window.FromTimedelta(timedelta(days=2))
    journey.definition.audience_id = "buyers"
    journey.definition.steps.add(id="end").exit.reason = "done"
    return journey


STEPS = [{"id": "end", "exit": {"reason": "done"}}]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], Changes()),
        (["name"], Changes(name="Hello")),
        (["description"], Changes(description="")),
        (["goal.event_name"], Changes(goal_event="purchase")),
        (["goal.window"], Changes(goal_window=timedelta(days=2))),
        (["goal"], Changes(goal_event="purchase", goal_window=timedelta(days=2))),
        (["definition.audience_id"], Changes(definition={"audienceId": "buyers"})),
        (["definition.max_duration_days"], Changes(definition={"maxDurationDays": None})),
        (
            ["definition"],
            Changes(
                definition={
                    "audienceId": "buyers",
                    "triggerContractId": None,
                    "reentry": None,
                    "maxDurationDays": None,
                    "steps": STEPS,
                    "followLiveCommunications": None,
                    "exitRules": None,
                    "exitOnGoal": None,
                    "sendWindow": None,
                    "holdout": None,
                    "autoPause": None,
                    "startsAt": None,
                    "endsAt": None,
                    "whilePaused": None,
                    "entryCondition": None,
                    "entryGrace": None,
                    "schedule": None,
                    "start": None,
                    "canvas": None,
                    "definition": None,
                }
            ),
        ),
    ],
    ids=str,
)
def test_a_path_changes_what_it_names(paths: list[str], expected: Changes) -> None:
    assert changes_of(sent(), paths) == expected


def test_what_is_named_and_not_there_is_emptied() -> None:
    nothing = pb.Journey(id="welcome")

    assert changes_of(nothing, ["goal"]) == Changes(goal_event="", project_goal_window=True)
    assert changes_of(nothing, ["definition.steps"]) == Changes(definition={"steps": []})


def test_a_new_definition_without_steps_says_nothing_about_them() -> None:
    assert new_definition(pb.JourneyDefinition(audience_id="buyers")) == {"audienceId": "buyers"}
    assert new_definition(sent().definition) == {"audienceId": "buyers", "steps": STEPS}


def faults_in(journey: pb.Journey) -> list[tuple[str, str]]:
    """As a caller of gRPC is told them."""
    return [(fault.path, fault.reason) for fault in check_message(CreateJourneyRequest(journey=journey))]


def with_step(kind: str, **members: object) -> pb.Journey:
    step = pb.Step(id="s", **{kind: getattr(pb, _MESSAGES[kind])(**members)})
    return pb.Journey(name="J", definition=pb.JourneyDefinition(steps=[step]))


_MESSAGES = {"wait": "WaitStep", "wait_for": "WaitForStep", "split": "SplitStep"}
EVENT = "steps[0].waitFor.event"


@pytest.mark.parametrize(
    ("journey", "expected"),
    [
        (with_step("wait"), [("steps[0].wait", "REQUIRED")]),
        (with_step("wait", time_of_day=pb.TimeOfDay()), [("steps[0].wait.timeOfDay.time", "REQUIRED")]),
        (
            with_step("wait", time_of_day=pb.TimeOfDay(time="25:00", weekdays=[pb.WEEKDAY_MONDAY, 0, 9])),  # type: ignore[list-item]
            [
                ("steps[0].wait.timeOfDay.weekdays[1]", "UNKNOWN_ENUM_VALUE"),
                ("steps[0].wait.timeOfDay.weekdays[2]", "UNKNOWN_ENUM_VALUE"),
                ("steps[0].wait.timeOfDay.time", "INVALID_VALUE"),
            ],
        ),
        (with_step("wait", date=pb.DateOfAttribute(before=Duration())), [
            ("steps[0].wait.date.fieldPath", "REQUIRED"), ("steps[0].wait.date.before", "OUT_OF_RANGE"),
        ]),
        (with_step("wait_for"), [("steps[0].waitFor", "REQUIRED")]),
        (with_step("wait_for", when={}), [("steps[0].waitFor.when.kind", "UNKNOWN_KIND")]),
        (with_step("wait_for", event={}), [(f"{EVENT}.eventName", "REQUIRED")]),
        (with_step("wait_for", event={"event_name": "a", "where": {}}), [(f"{EVENT}.where.kind", "UNKNOWN_KIND")]),
        (
            with_step("wait_for", event={"event_name": "a", "where": {"in_cohort": {"cohort_id": "vip"}}}),
            [(f"{EVENT}.where.kind", "LEAF_NOT_ALLOWED")],
        ),
        (with_step("wait_for", event={"event_name": "a", "after": 7}), [(f"{EVENT}.after", "UNKNOWN_ENUM_VALUE")]),
        (with_step("wait_for", changed={}), [("steps[0].waitFor.changed.fieldPath", "REQUIRED")]),
        (with_step("split"), [("steps[0].split.arms", "REQUIRED")]),
        (with_step("split", arms=[{"id": "a"}]), [("steps[0].split.arms[0].weight", "REQUIRED")]),
        (with_step("split", arms=[{"id": "a", "weight": 0}]), [("steps[0].split.arms[0].weight", "OUT_OF_RANGE")]),
        (
            pb.Journey(name="J", definition=pb.JourneyDefinition(exit_rules=[pb.ExitRule(id="r")])),
            [("exitRules[0]", "REQUIRED")],
        ),
    ],
    ids=lambda value: "" if isinstance(value, Message) else str(value),
)  # fmt: skip
def test_what_is_empty_or_unknown_in_a_message_is_told_with_all_else(
    journey: pb.Journey, expected: list[tuple[str, str]]
) -> None:
    assert faults_in(journey) == expected


def test_an_unknown_day_in_json_hides_no_other_fault() -> None:
    steps = [{"id": "s", "wait": {"timeOfDay": {"time": "25:00", "weekdays": ["monday", "caturday"]}}}]

    journey, faults = decode(pb.Journey, {"name": "J", "steps": steps, "maxDurationDays": 400})

    assert [(fault.path, fault.reason) for fault in faults] == [
        ("steps[0].wait.timeOfDay.weekdays[1]", "UNKNOWN_ENUM_VALUE")
    ]
    assert {path for path, _ in faults_in(journey)} == {
        "maxDurationDays",
        "steps[0].wait.timeOfDay.time",
        "steps[0].wait.timeOfDay.weekdays[1]",
    }


def test_words_of_days_and_of_what_counts_are_in_lower_case() -> None:
    step = pb.Step(id="s", wait=pb.WaitStep(time_of_day=pb.TimeOfDay(time="09:30", weekdays=[pb.WEEKDAY_SUNDAY])))
    event = pb.EventCondition(event_name="reply", after=pb.EventCondition.AFTER_STEP)

    assert encode(step)["wait"] == {"timeOfDay": {"time": "09:30", "weekdays": ["sunday"]}}
    assert encode(event) == {"eventName": "reply", "after": "step"}
    assert encode(pb.TimeOfDay(time="09:30")) == {"time": "09:30"}
