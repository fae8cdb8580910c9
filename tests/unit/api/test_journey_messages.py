"""Updates of journeys, from the paths they name to what they change."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.api.convert.journeys import changes_of, new_definition
from orchestrator.application.journeys import Changes
from orchestrator.v1 import journey_pb2 as pb


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
