"""The form with nodes and edges: the same journeys, and no less said."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.definition_changes import edited_definition
from orchestrator.domain.graph_form import KINDS_BY_TYPE, as_written, is_graph, with_graph, with_steps
from orchestrator.domain.journey_form import kept, parse, stored
from orchestrator.domain.journey_graph import Existing, examine
from orchestrator.domain.step_forms import STEP_KINDS

Json = dict[str, Any]
NOTHING = Existing(communications={}, audiences={}, trigger_contracts=set(), cohorts=set())
EVERYONE: Json = {"kind": "everyone"}

GRAPH: Json = {
    "nodes": [
        {"id": "in", "type": "entry_trigger", "position": {"x": 0, "y": 0}, "data": {"label": "Signed up"}},
        {
            "id": "greet",
            "type": "channel_action",
            "data": {"communicationId": "hello", "label": "Hi"},
            "selected": True,
        },
        {"id": "ask", "type": "condition_split", "data": {"condition": EVERYONE}},
        {"id": "rest", "type": "wait_for", "data": {"when": EVERYONE, "timeout": "1d", "color": [1, None]}},
        {"id": "halve", "type": "split", "data": {"arms": [{"id": "a", "weight": 1}, {"id": "b", "weight": 2}]}},
        {"id": "done", "type": "exit", "data": {"reason": "done"}},
    ],
    "edges": [
        {"id": "e1", "source": "in", "target": "greet"},
        {"source": "greet", "target": "ask", "animated": True},
        {"source": "ask", "sourceHandle": "true", "target": "rest", "label": "yes"},
        {"source": "ask", "sourceHandle": "false", "target": "halve"},
        {"source": "rest", "target": "done"},
        {"source": "rest", "sourceHandle": "otherwise", "target": "halve"},
        {"source": "halve", "sourceHandle": "a", "target": "done"},
        {"source": "halve", "sourceHandle": "b", "target": "done", "data": {"weight": "two"}},
    ],
    "viewport": {"x": 1, "y": 2.5, "zoom": 0.5},
}


def graph(**changes: Any) -> Json:
    return {"definition": {**copy.deepcopy(GRAPH), **changes}}


def faults_of(document: Json) -> list[tuple[str, str]]:
    return [(fault.path, fault.reason) for fault in parse(document)[1]]


def findings_of(document: Json) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Faults and warnings of publishing, told as the author wrote."""
    definition = kept(document)
    found = examine(stored(definition), NOTHING)
    told = [{(f.path, f.reason) for f in as_written(definition, list(some))} for some in (found.faults, found.warnings)]
    return told[0], told[1]


def test_every_kind_of_step_is_a_type_of_node() -> None:
    assert set(KINDS_BY_TYPE.values()) == set(STEP_KINDS)
    named = {"channel_action", "condition_split", "wait", "wait_for", "split", "exit"}
    assert (
        named | {"adaptive_branch", "nba_decision", "update_subject", "emit_event", "webhook"} <= KINDS_BY_TYPE.keys()
    )


def test_a_graph_comes_back_with_all_that_its_canvas_wrote() -> None:
    definition = kept(graph())

    assert faults_of(graph()) == []
    assert is_graph(definition)
    assert with_graph(definition) == graph()
    assert with_graph(kept(with_steps(definition))) == graph()


def test_a_graph_means_what_its_steps_mean() -> None:
    steps = [
        {"id": "greet", "send": {"communicationId": "hello"}, "next": "ask"},
        {"id": "ask", "branch": {"arms": [{"id": "true", "when": EVERYONE, "next": "rest"}], "otherwise": "halve"}},
        {"id": "rest", "waitFor": {"when": EVERYONE, "timeout": "1d", "otherwise": "halve"}, "next": "done"},
        {
            "id": "halve",
            "split": {"arms": [{"id": "a", "weight": 1, "next": "done"}, {"id": "b", "weight": 2, "next": "done"}]},
        },
        {"id": "done", "exit": {"reason": "done"}},
    ]

    assert parse(graph())[0] == parse({"steps": steps})[0]


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [{"id": "in", "type": "entry_trigger", "data": {}}],
        [{"id": "done", "type": "exit", "data": {}}],
        [{"id": "done", "type": "exit", "data": {}}, {"id": "in", "type": "entry_trigger", "data": {}}],
    ],
    ids=["empty", "only an entry", "no entry", "an entry that leads nowhere"],
)
def test_what_is_half_drawn_is_kept_as_it_is_and_not_published(nodes: list[Json]) -> None:
    half = {"definition": {"nodes": nodes, "edges": []}}

    assert faults_of(half) == []
    assert with_graph(kept(with_steps(kept(half)))) == half
    (fault,) = findings_of(half)[0]
    assert fault in {
        ("definition.nodes", "EMPTY_DEFINITION"),
        ("definition.nodes", "ENTRY_TRIGGER_REQUIRED"),
        ("definition.nodes[1]", "NEXT_NOT_FOUND"),
    }


def edge(source: str, target: str, handle: str | None = None) -> Json:
    return {"source": source, "target": target} | ({} if handle is None else {"sourceHandle": handle})


@pytest.mark.parametrize(
    ("nodes", "edges", "expected"),
    [
        ([], [edge("gone", "done")], [("definition.edges[8].source", "NODE_NOT_FOUND")]),
        ([], [edge("greet", "done")], [("definition.edges[8]", "DUPLICATE_EDGE")]),
        ([], [edge("in", "done")], [("definition.edges[8]", "DUPLICATE_EDGE")]),
        ([], [edge("halve", "done", "c")], [("definition.edges[8].sourceHandle", "UNKNOWN_HANDLE")]),
        ([], [edge("halve", "done")], [("definition.edges[8].sourceHandle", "REQUIRED")]),
        ([], [edge("done", "greet")], [("definition.edges[8].source", "INVALID_VALUE")]),
        ([], [edge("greet", "in")], [("definition.edges[8].target", "INVALID_VALUE")]),
        ([], [edge("greet", "no id")], [("definition.edges[8].target", "INVALID_ID")]),
        ([], [{"source": "greet"}], [("definition.edges[8].target", "REQUIRED")]),
        ([{"id": "in2", "type": "entry_trigger"}], [], [("definition.nodes[6].type", "DUPLICATE_ENTRY_TRIGGER")]),
        ([{"id": "done", "type": "exit"}], [], [("definition.nodes[6].id", "DUPLICATE_ID")]),
        ([{"id": "in", "type": "exit"}], [], [("definition.nodes[6].id", "DUPLICATE_ID")]),
        ([{"id": "x", "type": "magic"}], [], [("definition.nodes[6].type", "UNKNOWN_ENUM_VALUE")]),
        ([{"id": "x"}], [], [("definition.nodes[6].type", "REQUIRED")]),
        ([5], [5], [("definition.nodes[6]", "INVALID_TYPE"), ("definition.edges[8]", "INVALID_TYPE")]),
        (
            [{"id": "x", "type": "wait", "data": {"duration": "soon", "next": "done", "time_of_day": {}}}],
            [],
            [
                ("definition.nodes[6].data.next", "INVALID_VALUE"),
                ("definition.nodes[6].data.time_of_day", "UNKNOWN_FIELD"),
                ("definition.nodes[6].data.duration", "INVALID_VALUE"),
            ],
        ),
        (
            [{"id": "x", "type": "condition_split", "data": {"condition": {"kind": "and", "clauses": [{}]}}}],
            [],
            [("definition.nodes[6].data.condition.clauses[0].kind", "UNKNOWN_KIND")],
        ),
        (
            [{"id": "x", "type": "condition_split", "data": {"arms": [{"id": "a", "next": "done"}]}}],
            [],
            [
                ("definition.nodes[6].data.arms[0].next", "INVALID_VALUE"),
                ("definition.nodes[6].data.arms[0].when", "REQUIRED"),
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_graph_is_told_where_it_stands(
    nodes: list[Any], edges: list[Any], expected: list[tuple[str, str]]
) -> None:
    spoiled = graph(nodes=[*GRAPH["nodes"], *nodes], edges=[*GRAPH["edges"], *edges])

    assert faults_of(spoiled) == expected


def test_what_keeps_a_graph_from_being_published_is_told_where_it_stands() -> None:
    nodes = [*GRAPH["nodes"], {"id": "lost", "type": "wait", "data": {"duration": "1d"}}]
    edges = [*(one for one in GRAPH["edges"] if one["source"] != "greet"), edge("lost", "nowhere")]
    edges = [{**one, "target": "ask"} if one.get("sourceHandle") == "a" else one for one in edges]
    edges.insert(1, edge("greet", "ask"))
    edges = [one for one in edges if one.get("sourceHandle") != "b"]

    faults, warnings = findings_of({"definition": {"nodes": nodes, "edges": edges}})

    assert faults == {
        ("definition.nodes[1].data.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("definition.nodes[4]", "NEXT_NOT_FOUND"),
        ("definition.edges[6].target", "CYCLE"),
        ("definition.edges[7].target", "NEXT_NOT_FOUND"),
    }
    assert warnings == {("definition.nodes[6]", "UNREACHABLE_STEP")}


def test_a_journey_is_written_in_one_form() -> None:
    assert faults_of({**graph(), "steps": [{"id": "a", "exit": {}}]}) == [("definition", "INVALID_VALUE")]
    assert faults_of({"definition": []}) == [("definition", "INVALID_TYPE")]


def test_steps_that_are_edited_by_hand_do_not_tear_up_the_canvas() -> None:
    before = kept(graph())
    steps = [
        {name: value for name, value in step.items() if name != "canvas"} for step in copy.deepcopy(before["steps"])
    ]
    steps[3]["split"]["arms"][0]["weight"] = 5

    after = edited_definition(before, {"steps": steps})

    expected = graph()
    expected["definition"]["nodes"][4]["data"]["arms"][0]["weight"] = 5
    assert not is_graph(after)
    assert with_graph(after) == expected
    assert edited_definition(after, {"definition": GRAPH}) == before


FREE = st.dictionaries(
    st.sampled_from(["x", "label", "position", "next to"]),
    st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3), st.lists, max_leaves=4),
    max_size=3,
)
IDS = [f"s{number}" for number in range(6)]
TARGETS = st.sampled_from([*IDS, "gone", ""])


def _with(document: Json, **members: Any) -> Json:
    return document | {name: value for name, value in members.items() if value not in ("", {}, None)}


@st.composite
def steps_of(draw: Callable[[Any], Any]) -> Json:
    """A definition in the form with steps, in which anything may lead anywhere or nowhere."""
    steps = [_step(draw, step_id) for step_id in IDS[: draw(st.integers(0, len(IDS)))]]
    document: Json = {"steps": steps}
    start = draw(TARGETS | st.none())
    if start is not None and steps and start != steps[0]["id"]:
        document["start"] = start
    if steps and draw(st.booleans()):
        entry = _with({}, node=draw(FREE), data=draw(FREE), id=draw(st.sampled_from(["", "in"])))
        entry = _with(entry, at=draw(st.integers(0, len(steps))) or None)
        leads = document.get("start", "somewhere")
        canvas = _with({}, graph=draw(FREE), entry=_with(entry, edge=draw(FREE) if leads else None))
        document = _with(document, canvas=canvas)
    return document


def _step(draw: Callable[[Any], Any], step_id: str) -> Json:
    kind = draw(st.sampled_from(STEP_KINDS))
    step: Json = {"id": step_id}
    arm_ids = draw(st.lists(st.sampled_from(["true", "false", "a", "b"]), min_size=1, max_size=3, unique=True))
    ways: dict[str, str] = {}

    def lead(handle: str) -> dict[str, str]:
        target = draw(TARGETS)
        if target:
            ways[handle] = target
        return {"next": target} if target else {}

    match kind:
        case "send":
            step |= {kind: {"communicationId": "hello"}, **lead("next")}
        case "wait":
            step |= {kind: {"duration": "3d"}, **lead("next")}
        case "waitFor":
            step |= {kind: {"when": EVERYONE, "timeout": "1d"}, **lead("next")}
            step[kind] = _with(step[kind], otherwise=lead("otherwise").get("next"))
        case "branch":
            step[kind] = {"arms": [{"id": one, "when": EVERYONE, **lead(one)} for one in arm_ids]}
            step[kind] = _with(step[kind], otherwise=lead("otherwise").get("next"))
        case "split":
            step[kind] = {"arms": [{"id": one, "weight": 2, **lead(one)} for one in arm_ids]}
        case "adaptiveBranch":
            step[kind] = {"arms": [{"id": one, **lead(one)} for one in arm_ids], "learning": {"graceDays": 2}}
        case "nbaDecision":
            step[kind] = {"arms": [{"id": one, "share": 0.1, **lead(one)} for one in arm_ids], "context": ["plan"]}
        case "updateSubject":
            step |= {kind: {"attributes": {"plan": "pro"}}, **lead("next")}
        case "emitEvent":
            step |= {kind: {"eventName": "bought"}, **lead("next")}
        case "webhook":
            step |= {kind: {"url": "https://example.com/", "body": {"next": 1}}, **lead("next")}
            step[kind] = _with(step[kind], otherwise=lead("otherwise").get("next"))
        case "exit":
            step[kind] = {}
        case _:
            pytest.fail(f"{kind} is not in here")
    edges = {handle: free for handle in ways if (free := draw(FREE))}
    return _with(step, canvas=_with({}, node=draw(FREE), data=draw(FREE), edges=edges))


@settings(max_examples=150, deadline=None)
@given(steps_of())
def test_nothing_is_lost_between_the_forms(document: Json) -> None:
    assert faults_of(document) == []
    shown = with_graph(document)
    assert faults_of(shown) == []

    assert with_steps(kept(shown)) == document
    assert with_graph(kept(shown)) == shown
    assert parse(shown)[0] == parse(document)[0]


@settings(max_examples=150, deadline=None)
@given(steps_of())
def test_both_forms_are_found_the_same_fault_with(document: Json) -> None:
    found = examine(stored(document), NOTHING)

    told = as_written(kept(with_graph(document)), list(found.faults + found.warnings))

    assert [fault.reason for fault in told] == [fault.reason for fault in (*found.faults, *found.warnings)]
    assert all(fault.path.startswith("definition.") for fault in told)
