"""A journey's definition over both transports: its members stand in the JSON document, and faults lead to them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from orchestrator.v1 import journey_pb2 as journeys
from orchestrator.v1 import journey_service_pb2 as rpc
from tests.integration.api.callers import Caller, Refused
from tests.integration.api.conftest import OWNER_KEY, Served

STEPS: list[dict[str, Any]] = [
    {"id": "pause", "wait": {"duration": "3d"}, "next": "check"},
    {
        "id": "check",
        "branch": {
            "arms": [{"id": "bought", "when": {"kind": "event_fired", "eventName": "buy"}, "next": "end"}],
            "otherwise": "end",
        },
    },
    {"id": "end", "exit": {"reason": "finished"}},
]
DEFINITION: dict[str, Any] = {
    "reentry": {"policy": "interval", "interval": "1w"},
    "maxDurationDays": 30,
    "steps": STEPS,
}
MEMBERS = {"audienceId", "triggerContractId", "reentry", "maxDurationDays", "steps"}


def definition_in(document: dict[str, Any]) -> dict[str, Any]:
    return {name: member for name, member in document.items() if name in MEMBERS}


async def send(served: Served, verb: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
    """The body of an answer to what a caller writes by hand."""
    answer = await served.http.client.request(
        verb, f"/v1/journeys{path}", json=body, params=query, headers={"X-Api-Key": OWNER_KEY}
    )
    return answer.json()


async def test_a_document_comes_back_as_it_was_sent_and_a_patch_changes_one_member(served: Served) -> None:
    sent = {"id": "welcome", "name": "Welcome", "goal": {"eventName": "buy", "window": "36h"}, **DEFINITION}

    made = await send(served, "POST", "", sent)
    read = await send(served, "GET", "/welcome")
    changed = await send(served, "PATCH", "/welcome", {"maxDurationDays": 9})
    cleared = await send(served, "PATCH", "/welcome", {"maxDurationDays": None, "name": "Hello"})
    masked = await send(served, "PATCH", "/welcome", {"maxDurationDays": 5, "name": "x"}, updateMask="maxDurationDays")

    assert {name: made[name] for name in sent} == sent
    assert read == made
    assert definition_in(changed) == {**DEFINITION, "maxDurationDays": 9}
    assert definition_in(cleared) == {"reentry": DEFINITION["reentry"], "steps": STEPS}
    assert (masked["name"], definition_in(masked)) == ("Hello", {**DEFINITION, "maxDurationDays": 5})
    assert await send(served, "GET", "/welcome") == masked


async def test_a_version_has_the_members_too_and_lists_have_none(served: Served) -> None:
    await send(served, "POST", "", {"id": "welcome", "name": "Welcome", **DEFINITION})
    await send(served, "POST", "/welcome:publish", {})

    version = await send(served, "GET", "/welcome/versions/1")
    versions = (await send(served, "GET", "/welcome/versions"))["versions"]
    listed = (await send(served, "GET", ""))["journeys"]

    assert definition_in(version) == DEFINITION
    assert [definition_in(document) for document in (*versions, *listed)] == [{}, {}]
    assert "definition" not in {*version, *versions[0], *listed[0]}


async def test_a_definition_as_messages_have_it_is_not_taken_for_a_graph(served: Served) -> None:
    answer = await send(served, "POST", "", {"name": "Welcome", "definition": DEFINITION})

    violations = next(detail["fieldViolations"] for detail in answer["error"]["details"] if "fieldViolations" in detail)
    assert [(violation["field"], violation["reason"]) for violation in violations] == [
        (f"definition.{name}", "UNKNOWN_FIELD") for name in DEFINITION
    ]


async def test_faults_have_the_same_paths_over_both_transports(caller: Caller) -> None:
    arm = journeys.BranchArm(id="bought", next="end")
    arm.when.all_of.clauses.add().event_fired.event_name = "buy"
    arm.when.all_of.clauses.add().attribute.operator = "exists"
    definition = journeys.JourneyDefinition(
        max_duration_days=366,
        steps=[
            journeys.Step(id="check", branch=journeys.BranchStep(arms=[arm], otherwise="end")),
            journeys.Step(id="check", exit=journeys.ExitStep()),
        ],
    )

    with pytest.raises(Refused) as refusal:
        await caller.call(
            rpc.CreateJourneyRequest(journey=journeys.Journey(id="welcome", name="Welcome", definition=definition))
        )

    assert sorted(refusal.value.violations) == [
        ("maxDurationDays", "OUT_OF_RANGE"),
        ("steps[0].branch.arms[0].when.clauses[1].fieldPath", "FIELD_PATH_REQUIRED"),
        ("steps[1].id", "DUPLICATE_ID"),
    ]


@pytest.mark.parametrize("spelled", ["maxDurationDays", "max_duration_days", "definition.max_duration_days"])
async def test_a_mask_may_name_a_member_in_every_spelling(caller: Caller, spelled: str) -> None:
    made = journeys.Journey(id="welcome", name="Welcome", definition=journeys.JourneyDefinition(max_duration_days=30))
    await caller.call(rpc.CreateJourneyRequest(journey=made))
    change = journeys.Journey(id="welcome", name="x", definition=journeys.JourneyDefinition(max_duration_days=9))

    changed = (
        await caller.call(rpc.UpdateJourneyRequest(journey=change, update_mask=FieldMask(paths=[spelled])))
    ).journey

    assert (changed.name, changed.definition.max_duration_days) == ("Welcome", 9)
    assert [step.id for step in changed.definition.steps] == ["exit"]
