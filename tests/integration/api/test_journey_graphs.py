"""A journey as nodes and edges, over both transports; and going back to an earlier version."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from orchestrator.v1 import journey_pb2 as journeys
from orchestrator.v1 import journey_service_pb2 as rpc
from tests.integration.api.callers import Caller, Refused
from tests.integration.api.conftest import OWNER_KEY, Served
from tests.integration.api.test_journeys import send

EVERYONE: dict[str, Any] = {"kind": "everyone"}
GRAPH: dict[str, Any] = {
    "nodes": [
        {"id": "in", "type": "entry_trigger", "position": {"x": 0, "y": 0}, "data": {"label": "Signed up"}},
        {"id": "ask", "type": "condition_split", "data": {"condition": EVERYONE}},
        {"id": "rest", "type": "wait", "data": {"duration": "3d", "note": {"by": "Ann"}}},
        {"id": "done", "type": "exit", "data": {"reason": "done"}},
    ],
    "edges": [
        {"source": "in", "target": "ask"},
        {"id": "yes", "source": "ask", "sourceHandle": "true", "target": "rest", "label": "yes"},
        {"source": "ask", "sourceHandle": "false", "target": "done"},
        {"source": "rest", "target": "done"},
    ],
    "viewport": {"zoom": 1.5},
}
EMPTY: dict[str, Any] = {"nodes": [], "edges": []}


def deep(levels: int) -> dict[str, Any]:
    """A predicate that is as deep as one may be; messages of free form could not hold it."""
    predicate = EVERYONE
    for _ in range(levels - 1):
        predicate = {"kind": "and", "clauses": [predicate]}
    return predicate


async def test_a_graph_comes_back_as_it_was_sent_and_reads_as_steps(served: Served) -> None:
    made = await send(served, "POST", "", {"id": "drawn", "name": "Drawn", "maxDurationDays": 9, "definition": GRAPH})
    plain = await send(served, "GET", "/drawn", form="steps")
    drawn = await send(served, "GET", "/drawn", form="graph")

    assert made["definition"] == GRAPH
    assert "steps" not in made
    assert drawn == await send(served, "GET", "/drawn") == made
    assert [step["id"] for step in plain["steps"]] == ["ask", "rest", "done"]
    assert "definition" not in plain
    written = {name: plain[name] for name in ("steps", "canvas")}
    again = await send(served, "POST", "", {"id": "plain", "name": "Plain", **written})
    assert {name: again[name] for name in written} == written
    assert (await send(served, "GET", "/plain", form="graph"))["definition"] == GRAPH


async def test_a_patch_of_one_form_takes_the_place_of_the_other(served: Served) -> None:
    await send(served, "POST", "", {"id": "both", "name": "Both", "maxDurationDays": 9, "definition": GRAPH})
    steps = [
        {"id": "ask", "branch": {"arms": [{"id": "true", "when": EVERYONE, "next": "done"}], "otherwise": "done"}},
        {"id": "done", "exit": {"reason": "done"}},
    ]

    by_hand = await send(served, "PATCH", "/both", {"steps": steps})
    drawn = await send(served, "GET", "/both", form="graph")
    masked = await send(served, "PATCH", "/both", {"definition": EMPTY}, updateMask="definition")

    assert "definition" not in by_hand
    assert drawn["definition"]["nodes"] == [GRAPH["nodes"][0], GRAPH["nodes"][1], GRAPH["nodes"][3]]
    assert drawn["definition"]["edges"][1] == {**GRAPH["edges"][1], "target": "done"}
    assert drawn["definition"]["viewport"] == GRAPH["viewport"]
    assert (masked["definition"], masked["maxDurationDays"]) == (EMPTY, 9)


async def test_an_empty_definition_is_kept_and_not_published(served: Served) -> None:
    made = await send(served, "POST", "", {"id": "empty", "name": "Empty", "definition": EMPTY})

    refused = await send(served, "POST", "/empty:publish", {})

    assert made["definition"] == EMPTY
    assert "INVALID_DEFINITION" in json.dumps(refused)
    assert violations(refused) == [("definition.nodes", "EMPTY_DEFINITION")]


def violations(answer: Any) -> list[tuple[str, str]]:
    return [
        (one["subject"], one["type"]) for detail in answer["error"]["details"] for one in detail.get("violations", ())
    ]


async def test_faults_lead_into_the_graph_over_both_transports(caller: Caller) -> None:
    spoiled = copy.deepcopy(GRAPH)
    spoiled["nodes"][1]["data"]["condition"] = {"kind": "and", "clauses": []}
    spoiled["nodes"][2]["data"]["duration"] = "soon"
    spoiled["edges"].append({"source": "rest", "target": "ask"})
    graph = journeys.JourneyGraph(json=json.dumps(spoiled))
    journey = journeys.Journey(name="Spoiled", definition=journeys.JourneyDefinition(graph=graph))

    with pytest.raises(Refused) as refused:
        await caller.call(rpc.CreateJourneyRequest(journey=journey))

    assert sorted(refused.value.violations) == [
        ("definition.edges[4]", "DUPLICATE_EDGE"),
        ("definition.nodes[1].data.condition.clauses", "EMPTY_CLAUSES"),
        ("definition.nodes[2].data.duration", "INVALID_VALUE"),
    ]


async def test_no_json_is_no_graph(served: Served) -> None:
    definition = journeys.JourneyDefinition(graph=journeys.JourneyGraph(json="{"))

    with pytest.raises(Refused) as refused:
        await served.grpc.call(rpc.CreateJourneyRequest(journey=journeys.Journey(name="None", definition=definition)))

    assert refused.value.violations == [("definition", "INVALID_TYPE")]


async def test_the_deepest_predicate_there_may_be_is_read_as_a_graph_over_both_transports(caller: Caller) -> None:
    arm = {"id": "deep", "when": deep(16), "next": "done"}
    graph = {
        "nodes": [
            {"id": "in", "type": "entry_trigger", "data": {}},
            {"id": "ask", "type": "condition_split", "data": {"arms": [{"id": "deep", "when": deep(16)}]}},
            {"id": "done", "type": "exit", "data": {}},
        ],
        "edges": [
            {"source": "in", "target": "ask"},
            {"source": "ask", "target": "done", "sourceHandle": arm["id"]},
            {"source": "ask", "target": "done", "sourceHandle": "otherwise"},
        ],
    }
    text = journeys.JourneyGraph(json=json.dumps(graph))
    made = journeys.Journey(id="deep", name="Deep", definition=journeys.JourneyDefinition(graph=text))
    await caller.call(rpc.CreateJourneyRequest(journey=made))

    steps = await caller.call(rpc.GetJourneyRequest(journey_id="deep", form=journeys.DEFINITION_FORM_STEPS))
    drawn = await caller.call(rpc.GetJourneyRequest(journey_id="deep", form=journeys.DEFINITION_FORM_GRAPH))

    assert [step.id for step in steps.journey.definition.steps] == ["ask", "done"]
    assert json.loads(drawn.journey.definition.graph.json) == graph


async def test_an_earlier_version_is_made_anew_and_the_draft_stays(served: Served) -> None:
    await send(served, "POST", "", {"id": "back", "name": "Back", "definition": GRAPH})
    await send(served, "POST", "/back:publish", {})
    await send(served, "PATCH", "/back", {"steps": [{"id": "end", "exit": {"reason": "second"}}]})
    await send(served, "POST", "/back:publish", {})
    await send(served, "PATCH", "/back", {"steps": [{"id": "end", "exit": {"reason": "draft"}}]})

    tried = await send(served, "POST", "/back:publish", {"fromVersion": 1, "validateOnly": True})
    made = await send(served, "POST", "/back:publish", {"fromVersion": 1})
    again = await send(served, "POST", "/back:publish", {"fromVersion": 1})
    missing = await send(served, "POST", "/back:publish", {"fromVersion": 9})
    journey = await send(served, "GET", "/back")
    entries = (await send(served, "GET", "/back/auditEntries"))["auditEntries"]

    assert tried["version"] == made["version"] == 3
    assert (await send(served, "GET", "/back/versions/3"))["definition"] == GRAPH
    assert [step["exit"]["reason"] for step in journey["steps"]] == ["draft"]
    assert (journey["latestVersion"], journey["hasDraft"]) == (3, True)
    assert again["error"]["details"][0]["reason"] == "NO_DRAFT"
    assert missing["error"]["details"][0]["reason"] == "JOURNEY_VERSION_NOT_FOUND"
    assert (entries[0]["action"], entries[0]["metadata"]["fromVersion"]) == ("journey_published", 1)


@pytest.mark.parametrize(("pins", "revision"), [("kept", 1), ("newest", 2)])
async def test_an_earlier_version_sends_the_texts_of_then_or_of_now(served: Served, pins: str, revision: int) -> None:
    text = journeys_text("First")
    await post(served, "/v1/communications", {"id": "hello", "name": "Hello", **text})
    steps = [{"id": "hello", "send": {"communicationId": "hello"}, "next": "end"}, {"id": "end", "exit": {}}]
    await send(served, "POST", "", {"id": "texts", "name": "Texts", "steps": steps})
    await send(served, "POST", "/texts:publish", {})
    await send(served, "PATCH", "/texts", {"steps": [{"id": "end", "exit": {"reason": "broken"}}]})
    await send(served, "POST", "/texts:publish", {})
    await post(served, "/v1/communications/hello", journeys_text("Second"), "PATCH")

    await send(served, "POST", "/texts:publish", {"fromVersion": 1, "pins": pins})

    sent = (await send(served, "GET", "/texts/versions/3"))["communications"]["hello"]
    assert sent["contentRevision"] == revision


def journeys_text(body: str) -> dict[str, Any]:
    return {"channel": "log", "category": "marketing", "subject": "S", "body": body}


async def post(served: Served, path: str, body: dict[str, Any], verb: str = "POST") -> None:
    answer = await served.http.client.request(verb, path, json=body, headers={"X-Api-Key": OWNER_KEY})
    assert answer.status_code == 200, answer.text
