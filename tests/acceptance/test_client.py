"""The client against the real server."""

from __future__ import annotations

import signal

import grpc
import pytest

from orchestrator.client import OrchestratorClient, OrchestratorError, each, messages
from orchestrator.devstack.stack import SERVER, Stack

EVERYONE = messages.Predicate(everyone=messages.Everyone())


def audience(audience_id: str = "", *, name: str = "Somebody") -> messages.CreateAudienceRequest:
    resource = messages.Audience(id=audience_id, name=name, predicate=EVERYONE)
    return messages.CreateAudienceRequest(audience=resource)


async def test_resources_are_created_listed_changed_and_deleted(client: OrchestratorClient) -> None:
    for number in range(5):
        await client.audiences.CreateAudience(audience(f"a-{number}"))
    listed = [a.id async for a in each(client.audiences.ListAudiences, messages.ListAudiencesRequest(page_size=2))]
    change = messages.UpdateAudienceRequest(audience=messages.Audience(id="a-0", name="First"))
    change.update_mask.paths.append("name")
    changed = (await client.audiences.UpdateAudience(change)).audience
    got = (await client.audiences.GetAudience(messages.GetAudienceRequest(audience_id="a-0"))).audience
    await client.audiences.DeleteAudience(messages.DeleteAudienceRequest(audience_id="a-0", etag=got.etag))
    left = [a.id async for a in each(client.audiences.ListAudiences, messages.ListAudiencesRequest())]

    assert listed == ["a-4", "a-3", "a-2", "a-1", "a-0"]
    assert changed == got
    assert (got.name, got.predicate) == ("First", EVERYONE)
    assert left == listed[:-1]


async def test_a_change_takes_effect_once_under_one_request_id(client: OrchestratorClient) -> None:
    named, unnamed = audience(), audience()
    named.request_id = "the-one"

    first = [(await client.audiences.CreateAudience(named)).audience.id for _ in range(2)]
    second = [(await client.audiences.CreateAudience(unnamed)).audience.id for _ in range(2)]

    assert first[0] == first[1]
    assert len({*first, *second}) == 3


async def test_what_the_server_refuses_is_told_in_its_words(client: OrchestratorClient, shared_stack: Stack) -> None:
    with pytest.raises(OrchestratorError) as missing:
        await client.journeys.GetJourney(messages.GetJourneyRequest(journey_id="nowhere"))
    empty = messages.Audience(predicate=messages.Predicate(all_of=messages.Clauses()))
    with pytest.raises(OrchestratorError) as invalid:
        await client.audiences.CreateAudience(messages.CreateAudienceRequest(audience=empty))
    unsendable = messages.Step(id="hello", send=messages.SendStep(communication_id="gone"), next="nowhere")
    journey = messages.Journey(id="j", name="J", definition=messages.JourneyDefinition(steps=[unsendable]))
    await client.journeys.CreateJourney(messages.CreateJourneyRequest(journey=journey))
    with pytest.raises(OrchestratorError) as unpublishable:
        await client.journeys.PublishJourney(messages.PublishJourneyRequest(journey_id="j"))
    async with OrchestratorClient(shared_stack.addresses.grpc, "not-a-key-of-anybody") as stranger:
        with pytest.raises(OrchestratorError) as unknown:
            await stranger.journeys.ListJourneys(messages.ListJourneysRequest())

    assert (missing.value.code, missing.value.reason) == (grpc.StatusCode.NOT_FOUND, "JOURNEY_NOT_FOUND")
    assert missing.value.metadata == {"journeyId": "nowhere"}
    assert {(v.path, v.reason) for v in invalid.value.violations} == {
        ("name", "REQUIRED"),
        ("predicate.clauses", "EMPTY_CLAUSES"),
    }
    assert unpublishable.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert {violation.reason for violation in unpublishable.value.violations} >= {
        "COMMUNICATION_NOT_FOUND",
        "NEXT_NOT_FOUND",
    }
    assert unknown.value.reason == "UNAUTHENTICATED"


async def test_one_call_outlives_a_server_that_is_killed(running_stack: Stack) -> None:
    server = running_stack.part(SERVER)
    async with OrchestratorClient(running_stack.addresses.grpc, running_stack.keys.owner, timeout=60) as client:
        first = (await client.audiences.CreateAudience(audience("before", name="Before"))).audience
        killed = server.process
        killed.send(signal.SIGKILL)
        await killed.wait()

        second = (await client.audiences.CreateAudience(audience("after", name="After"))).audience
        found = [a.name async for a in each(client.audiences.ListAudiences, messages.ListAudiencesRequest())]

    assert (first.id, second.id) == ("before", "after")
    assert found == ["After", "Before"]
    assert server.restarts == 1


async def test_a_request_whose_answer_was_lost_takes_effect_once_when_it_is_sent_again(
    client: OrchestratorClient,
) -> None:
    with pytest.raises(OrchestratorError) as lost:
        await client.audiences.CreateAudience(audience(name="Once"), timeout=0.000_1)
    again = audience(name="Once")
    again.request_id = lost.value.request_id

    created = [(await client.audiences.CreateAudience(again)).audience.id for _ in range(2)]
    listed = [a.id async for a in each(client.audiences.ListAudiences, messages.ListAudiencesRequest())]

    assert lost.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert created[0] == created[1]
    assert listed == created[:1]
