"""Changing the fields an update names, and no others."""

from __future__ import annotations

from orchestrator.api.field_masks import apply_update
from orchestrator.v1.journey_pb2 import Goal, Journey, JourneyDefinition, Step
from orchestrator.v1.subject_pb2 import Subject


def stored() -> Journey:
    definition = JourneyDefinition(audience_id="a", max_duration_days=3, steps=[Step(id="x"), Step(id="y")])
    return Journey(id="j", name="J", description="d", definition=definition, goal=Goal(event_name="buy"))


def test_only_the_named_fields_change() -> None:
    journey = stored()

    apply_update(journey, Journey(name="new", description="not asked for"), ["name"])

    assert (journey.name, journey.description) == ("new", "d")


def test_a_named_field_without_a_value_loses_its_value() -> None:
    journey = stored()

    apply_update(journey, Journey(), ["description", "goal", "definition.max_duration_days"])

    assert journey.description == ""
    assert not journey.HasField("goal")
    assert not journey.definition.HasField("max_duration_days")
    assert journey.definition.audience_id == "a"


def test_lists_are_replaced_and_not_extended() -> None:
    journey = stored()

    apply_update(journey, Journey(definition=JourneyDefinition(steps=[Step(id="z")])), ["definition.steps"])

    assert [step.id for step in journey.definition.steps] == ["z"]
    assert journey.definition.audience_id == "a"


def test_a_message_that_was_not_there_is_made() -> None:
    journey = Journey(id="j")

    apply_update(journey, Journey(goal=Goal(event_name="buy")), ["goal.event_name"])

    assert journey.goal == Goal(event_name="buy")


def test_an_empty_text_that_was_given_is_not_the_same_as_none() -> None:
    subject = Subject(id="s", time_zone="UTC")

    apply_update(subject, Subject(time_zone=""), ["time_zone"])

    assert subject.HasField("time_zone")
    assert subject.time_zone == ""
