"""The form in which handlers see requests, and faults that belong to one item of many."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from orchestrator.api.field_limits import MAX_STRUCT_DEPTH
from orchestrator.api.json_decode import decode
from orchestrator.api.message_check import check_message, divide
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.operands import MAX_VALUE_DEPTH
from orchestrator.predicates.parse import MAX_DEPTH
from orchestrator.v1.audience_pb2 import Audience
from orchestrator.v1.audience_service_pb2 import CreateAudienceRequest, UpdateAudienceRequest
from orchestrator.v1.event_pb2 import Event
from orchestrator.v1.event_service_pb2 import IngestEventsRequest
from orchestrator.v1.execution_service_pb2 import GetExecutionRequest, ListExecutionsRequest
from orchestrator.v1.journey_pb2 import Goal, Journey, JourneyDefinition, Step
from orchestrator.v1.journey_service_pb2 import CreateJourneyRequest, UpdateJourneyRequest
from orchestrator.v1.predicate_pb2 import Everyone, Predicate
from orchestrator.v1.subject_service_pb2 import BatchUpsertSubjectsRequest, UpsertSubjectRequest


def reasons(faults: list[Fault]) -> dict[str, str]:
    return {fault.path: fault.reason for fault in faults}


def test_what_only_the_server_writes_is_cleared() -> None:
    journey = Journey(id="j", name="J", status=Journey.STATUS_ACTIVE, has_draft=True, latest_version=7)
    request = UpdateJourneyRequest(journey=journey)

    assert check_message(request) == []
    assert request.journey == Journey(id="j", name="J")


def test_a_resource_that_is_not_there_is_an_empty_one() -> None:
    assert reasons(check_message(CreateAudienceRequest())) == {"name": "REQUIRED", "predicate": "REQUIRED"}


def test_without_a_mask_an_update_changes_what_is_set() -> None:
    definition = JourneyDefinition(audience_id="a", max_duration_days=3)
    journey = Journey(id="j", name="J", definition=definition, goal=Goal(event_name="buy"), etag="x")
    request = UpdateJourneyRequest(journey=journey)

    assert check_message(request) == []
    assert list(request.update_mask.paths) == [
        "definition.audience_id",
        "definition.max_duration_days",
        "goal.event_name",
        "name",
    ]


def test_a_mask_may_be_spelled_in_either_way_and_names_nothing_twice() -> None:
    mask = FieldMask(paths=["goal.eventName", "goal.event_name", "name", "etag", "createdAt", "status"])
    request = UpdateJourneyRequest(journey=Journey(id="j", name="J"), update_mask=mask)

    assert check_message(request) == []
    assert list(request.update_mask.paths) == ["goal.event_name", "name"]


@pytest.mark.parametrize("spelled", ["audienceId", "audience_id", "definition.audienceId", "definition.audience_id"])
def test_a_mask_names_a_member_of_a_definition_as_json_does_or_as_the_message_does(spelled: str) -> None:
    request = UpdateJourneyRequest(journey=Journey(id="j"), update_mask=FieldMask(paths=[spelled]))

    assert check_message(request) == []
    assert list(request.update_mask.paths) == ["definition.audience_id"]


def test_a_mask_may_name_a_whole_definition() -> None:
    request = UpdateJourneyRequest(journey=Journey(id="j"), update_mask=FieldMask(paths=["definition"]))

    assert check_message(request) == []
    assert list(request.update_mask.paths) == ["definition"]


def test_faults_in_a_definition_are_told_by_their_paths_in_json() -> None:
    definition = JourneyDefinition(audience_id="a b", max_duration_days=366, steps=[Step(id="x")])
    definition.MergeFromString(b"\xf8\x3f\x01")
    request = CreateJourneyRequest(journey=Journey(name="J", definition=definition))

    assert reasons(check_message(request)) == {
        "audienceId": "INVALID_ID",
        "maxDurationDays": "OUT_OF_RANGE",
        "steps[0]": "REQUIRED",
        "#1023": "UNKNOWN_FIELD",
    }


def test_a_star_is_everything_that_can_be_changed() -> None:
    audience = Audience(id="a", name="A", predicate=Predicate(everyone=Everyone()))
    request = UpdateAudienceRequest(audience=audience, update_mask=FieldMask(paths=["*"]))

    assert check_message(request) == []
    assert list(request.update_mask.paths) == ["description", "name", "predicate", "subject_type"]


def test_a_mask_that_takes_away_what_is_required_is_refused() -> None:
    mask = FieldMask(paths=["name", "predicate", "description"])
    request = UpdateAudienceRequest(audience=Audience(id="a"), update_mask=mask)

    assert reasons(check_message(request)) == {"name": "REQUIRED", "predicate": "REQUIRED"}


def test_a_path_into_what_is_replaced_as_a_whole_is_refused() -> None:
    paths = ["predicate.everyone", "definition.steps.id", "steps.id", "name.x", "nonsense", ""]
    request = UpdateJourneyRequest(journey=Journey(id="j"), update_mask=FieldMask(paths=paths))

    assert [fault.reason for fault in check_message(request)] == ["UNKNOWN_FIELD"] * 6


def test_what_every_url_names_must_be_named() -> None:
    assert reasons(check_message(UpsertSubjectRequest())) == {"id": "REQUIRED"}
    assert reasons(check_message(UpdateAudienceRequest(audience=Audience(name="x")))) == {"id": "REQUIRED"}
    assert reasons(check_message(GetExecutionRequest())) == {"executionId": "REQUIRED"}
    # One of its two URLs does not name a journey.
    assert check_message(ListExecutionsRequest()) == []


def test_unknown_fields_deep_inside_are_found() -> None:
    event = Event.FromString(Event(event_id="e", name="n", subject_id="s").SerializeToString() + b"\xf8\x3f\x01")
    request = IngestEventsRequest(events=[Event(event_id="d", name="n", subject_id="s"), event])

    assert reasons(check_message(request)) == {"events[1].#1023": "UNKNOWN_FIELD"}


def test_faults_of_items_that_stand_for_themselves_are_told_apart() -> None:
    request = IngestEventsRequest(events=[Event(event_id="a", name="n", subject_id="s"), Event(event_id="b")])

    whole, by_item = divide(request, check_message(request))

    assert whole == []
    assert {place: reasons(faults) for place, faults in by_item.items()} == {
        1: {"events[1].name": "REQUIRED", "events[1].subjectId": "REQUIRED"}
    }


def test_faults_of_other_requests_are_faults_of_the_whole() -> None:
    request = CreateAudienceRequest()
    faults = check_message(request)

    assert divide(request, faults) == (faults, {})


def test_too_many_events_are_a_fault_of_the_whole() -> None:
    request = IngestEventsRequest(events=[Event()] * 1001)

    whole, by_item = divide(request, check_message(request))

    assert (reasons(whole), by_item) == ({"events": "TOO_LARGE"}, {})


def test_a_request_that_is_too_large_is_refused_as_a_whole() -> None:
    request = CreateAudienceRequest(audience=Audience(description="x" * 2**20))

    assert reasons(check_message(request)) == {"": "TOO_LARGE"}


def test_the_deepest_requests_that_are_allowed_survive_the_wire() -> None:
    value: object = "end"
    for _ in range(MAX_VALUE_DEPTH):
        value = {"v": value}
    when: dict[str, object] = {"kind": "attribute", "fieldPath": "a", "operator": "eq", "value": value}
    for _ in range(MAX_DEPTH - 1):
        when = {"kind": "and", "clauses": [when]}
    steps = [{"id": "a", "branch": {"arms": [{"id": "x", "when": when}]}}]
    attributes: dict[str, object] = {}
    for _ in range(MAX_STRUCT_DEPTH - 1):
        attributes = {"a": attributes}

    for kind, document in (
        (UpdateJourneyRequest, {"journey": {"id": "j", "steps": steps}}),
        (BatchUpsertSubjectsRequest, {"subjects": [{"id": "s", "attributes": attributes}]}),
    ):
        request, faults = decode(kind, document)
        arrived = kind.FromString(request.SerializeToString())

        assert faults == []
        assert arrived == request
        assert check_message(arrived) == []
