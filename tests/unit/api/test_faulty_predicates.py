"""Predicates with faults: what can be read of them is there, and the rest is not found fault with twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.json_codec import read_request
from orchestrator.api.json_decode import decode
from orchestrator.api.json_predicates import predicate_to_document
from orchestrator.predicates.faults import Fault
from orchestrator.predicates.parse import parse
from orchestrator.v1.audience_pb2 import Audience
from orchestrator.v1.audience_service_pb2 import CreateAudienceRequest

VALUES = st.sampled_from(
    [
        *(None, True, 0, 1, -1, 2.5, 2**40, "", " ", "a", "a.b", "$entry.x", "$subject.y", "a..b", "7d"),
        *("2026-01-01T00:00:00Z", [], [1], ["a", None], {}, {"days": 7}, {"type": "ever"}, {"type": "never"}),
        *({"type": "last_n_days", "days": 0}, {"type": "last"}),
    ]
)
NAMES = st.sampled_from(
    ["eventName", "window", "atLeast", "fieldPath", "operator", "value", "cohortId", "where", "x.y"]
)
LEAVES = st.builds(
    lambda kind, members: {**members, "kind": kind},
    st.sampled_from(["everyone", "event_fired", "event_not_fired", "attribute", "in_cohort", "any_event", "", None, 7]),
    st.dictionaries(NAMES, VALUES, max_size=5),
)
OPERATORS = st.sampled_from(["equals", "exists", "in", "gt", "within", "contains", "near"])
ATTRIBUTES = st.fixed_dictionaries(
    {"kind": st.just("attribute"), "fieldPath": st.just("a"), "operator": OPERATORS}, optional={"value": VALUES}
)


def composites(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    clauses = st.lists(children, max_size=4)
    return st.one_of(
        st.builds(lambda kind, c: {"kind": kind, "clauses": c}, st.sampled_from(["and", "or"]), clauses | VALUES),
        st.builds(lambda c: {"kind": "not", "clause": c}, children | VALUES),
        st.just({"kind": "and", "clause": {"kind": "everyone"}}),
    )


DOCUMENTS = st.recursive(LEAVES | ATTRIBUTES, composites, max_leaves=12)


def places(faults: list[Fault]) -> list[tuple[str, str]]:
    return sorted((fault.path, fault.reason) for fault in faults)


@given(DOCUMENTS)
def test_a_request_has_the_faults_of_its_predicate_and_no_others(document: Any) -> None:
    body = json.dumps({"name": "A", "predicate": document}).encode()

    _, faults = read_request(CreateAudienceRequest, body_field="audience", body=body, path={}, query=[])

    assert places(faults) == places(parse(document, "predicate")[1])


def cohorts(document: Any, path: str = "") -> dict[str, str]:
    """The segments that are named, by their places."""
    if not isinstance(document, dict):
        return {}
    found = {}
    if (
        document.get("kind") == "in_cohort"
        and isinstance(document.get("cohortId"), str)
        and document["cohortId"].strip()
    ):
        found[path] = document["cohortId"]
    if document.get("kind") in ("and", "or") and isinstance(document.get("clauses"), list):
        for index, clause in enumerate(document["clauses"]):
            found |= cohorts(clause, f"{path}[{index}]")
    if document.get("kind") == "not":
        found |= cohorts(document.get("clause"), f"{path}.clause")
    return found


@given(DOCUMENTS)
def test_segments_are_found_in_spite_of_faults(document: Any) -> None:
    message, _ = decode(Audience, {"predicate": document})

    assert cohorts(predicate_to_document(message.predicate)) == cohorts(document)


@pytest.mark.parametrize(
    ("document", "read"),
    [
        (
            {"kind": "and", "clauses": [{"kind": "event_fired"}, {"kind": "in_cohort", "cohortId": "a"}]},
            {"kind": "and", "clauses": [{"kind": "event_fired"}, {"kind": "in_cohort", "cohortId": "a"}]},
        ),
        (
            {"kind": "or", "clauses": [5, {"kind": "magic"}, {"kind": "not", "clause": {"kind": "everyone", "x": 1}}]},
            {"kind": "or", "clauses": [{}, {}, {"kind": "not", "clause": {"kind": "everyone"}}]},
        ),
        (
            {"kind": "attribute", "fieldPath": "a", "operator": "near", "value": "\x00"},
            {"kind": "attribute", "fieldPath": "a"},
        ),
        (
            {"kind": "event_fired", "eventName": "e", "atLeast": 0, "window": {"type": "last", "duration": "x"}},
            {"kind": "event_fired", "eventName": "e"},
        ),
        ({"kind": "not"}, {"kind": "not", "clause": {}}),
        ({"kind": "and", "clauses": {}}, {"kind": "and", "clauses": []}),
    ],
)
def test_what_can_be_read_keeps_its_place(document: Any, read: Any) -> None:
    message, faults = decode(Audience, {"predicate": document})

    assert faults
    assert predicate_to_document(message.predicate) == read


@pytest.mark.parametrize("document", [5, "x", [], {"kind": "and", "clauses": [{"kind": "everyone"}] * 201}])
def test_nothing_is_read_of_what_is_wrong_as_a_whole(document: Any) -> None:
    message, faults = decode(Audience, {"predicate": document})

    assert faults
    assert not message.HasField("predicate")


def test_a_predicate_beyond_every_depth_is_refused_once() -> None:
    document: Any = {"kind": "everyone"}
    for _ in range(40):
        document = {"kind": "not", "clause": document}
    body = json.dumps({"name": "A", "predicate": document}).encode()

    _, faults = read_request(CreateAudienceRequest, body_field="audience", body=body, path={}, query=[])

    assert places(faults) == places(parse(document, "predicate")[1])
    assert [fault.reason for fault in faults] == ["TOO_DEEP"]
