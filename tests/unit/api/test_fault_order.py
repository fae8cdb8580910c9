"""Faults stand in the order of the contract, however they were found."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import Message

from orchestrator.api.descriptors import descriptor_of
from orchestrator.api.fault_order import in_order
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import audience_service_pb2 as audiences
from orchestrator.v1 import journey_service_pb2 as journeys
from orchestrator.v1 import subject_service_pb2 as subjects


@pytest.mark.parametrize(
    ("request_kind", "paths"),
    [
        (audiences.CreateAudienceRequest, ["", "id", "name", "predicate.clauses[0]", "requestId", "If-Match", "nmae"]),
        # A definition's members stand where the journey's definition does: before the goal.
        (
            journeys.CreateJourneyRequest,
            ["name", "steps", "steps[2].id", "steps[2].next", "steps[10].id", "goal.eventName", "goal.window", "etag"],
        ),
        (journeys.UpdateJourneyRequest, ["id", "description", "updateMask", "toStatus"]),
        (journeys.EnrollSubjectsRequest, ["journeyId", "subjectIds", "subjectIds[3]", "subjectIds[20]"]),
        (subjects.UpsertSubjectRequest, ["id", "attributes.b", "etag"]),
        (audiences.CreateAudienceRequest, ["name", "name[99999999999999999999]"]),
    ],
)
def test_what_comes_first_in_the_contract_comes_first(request_kind: type[Message], paths: list[str]) -> None:
    faults = [Fault(path=path, reason="INVALID_VALUE", message="") for path in paths]
    if "If-Match" in paths:
        # What the contract does not have comes last, as it was found.
        faults, unknown = faults[:-2], faults[-2:]
    else:
        unknown = []
    shuffled = random.Random(7).sample(faults, len(faults))

    assert in_order(descriptor_of(request_kind), [*unknown, *shuffled]) == [*faults, *unknown]


def test_what_is_about_one_thing_stays_as_it_was_found() -> None:
    faults = [Fault(path=f"predicate.{part}", reason="REQUIRED", message="") for part in ("z", "clauses[1]", "a")]

    assert in_order(descriptor_of(audiences.CreateAudienceRequest), faults) == faults
