from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.predicates.cohorts import Cohorts
from orchestrator.predicates.explain import explain
from orchestrator.predicates.facts import EventFacts, Facts
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Source

BUY = Source(name="buy")
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
RECENT = (NOW - timedelta(days=1), NOW - timedelta(days=8))
FACTS = Facts(
    attributes={"tier": "pro", "profile": {"a.b": [1, {"c": None}]}, "nothing": None},
    entry={"amount": 5},
    events={BUY: EventFacts(total=4, first_at=datetime(2020, 1, 1, tzinfo=UTC), last_at=RECENT[0], recent=RECENT)},
    cohorts=frozenset({"vip"}),
    known_cohorts=frozenset({"vip", "trial"}),
)


def explained(document: dict[str, Any], revealed: set[tuple[str, ...]] | None = None) -> dict[str, Any]:
    predicate, faults = parse(document, about=About.EXECUTION)
    assert predicate is not None, faults
    return explain(predicate, FACTS, NOW, reveal=lambda path: revealed is None or path in revealed)


def attribute(field: str, operator: str = "exists", value: object = None) -> dict[str, Any]:
    return {"kind": "attribute", "fieldPath": field, "operator": operator, "value": value}


def test_an_event_leaf_shows_what_was_counted() -> None:
    document = {"kind": "event_fired", "eventName": "buy", "window": {"type": "last_n_days", "days": 7}, "atLeast": 2}

    assert explained(document) == {
        "kind": "event_fired",
        "truth": False,
        "eventName": "buy",
        "evidence": {
            "total": 4,
            "counted": 1,
            "needed": 2,
            "windowStart": "2026-03-03T12:00:00Z",
            "firstAt": "2020-01-01T00:00:00Z",
            "lastAt": "2026-03-09T12:00:00Z",
        },
    }


def test_events_that_never_happened_are_told_as_none() -> None:
    node = explained({"kind": "event_not_fired", "eventName": "view"})

    assert node["truth"] is True
    assert node["evidence"] == {"total": 0, "counted": 0, "needed": 1}


def test_a_count_stops_at_what_was_needed() -> None:
    assert explained({"kind": "event_fired", "eventName": "buy", "atLeast": 3})["evidence"]["counted"] == 3


def test_an_attribute_shows_its_type_and_its_value_where_that_may_be_shown() -> None:
    paths = ["tier", "profile.a\\.b", "nothing", "missing", "$entry.amount"]

    open_evidence = [explained(attribute(path))["evidence"] for path in paths]
    masked_evidence = [explained(attribute(path), {("$entry", "amount")})["evidence"] for path in paths]

    assert open_evidence == [
        {"type": "string", "value": "pro"},
        {"type": "array", "value": [1, {"c": None}]},
        {"type": "null"},
        {"type": "missing"},
        {"type": "number", "value": 5},
    ]
    assert masked_evidence == [
        {"type": "string", "masked": True},
        {"type": "array", "masked": True},
        {"type": "null"},
        {"type": "missing"},
        {"type": "number", "value": 5},
    ]


def test_every_clause_is_explained_also_where_the_answer_is_settled() -> None:
    document = {
        "kind": "or",
        "clauses": [
            {"kind": "everyone"},
            {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "vip"}},
            attribute("tier", "eq", "pro"),
        ],
    }

    assert explained(document) == {
        "kind": "or",
        "truth": True,
        "clauses": [
            {"kind": "everyone", "truth": True},
            {
                "kind": "not",
                "truth": False,
                "clause": {"kind": "in_cohort", "truth": True, "cohortId": "vip", "evidence": {"member": True}},
            },
            {
                "kind": "attribute",
                "truth": True,
                "fieldPath": "tier",
                "operator": "equals",
                "evidence": {"type": "string", "value": "pro"},
            },
        ],
    }


def test_a_missing_cohort_leaves_no_truth_above_it() -> None:
    gone = {"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "gone"}}
    node = explained({"kind": "or", "clauses": [{"kind": "everyone"}, gone]})

    assert node["truth"] is None
    assert node["clauses"][0]["truth"] is True
    assert node["clauses"][1]["truth"] is None
    assert node["clauses"][1]["clause"] == {
        "kind": "in_cohort",
        "truth": None,
        "cohortId": "gone",
        "evidence": {"missing": "segment"},
    }


def test_a_cohort_with_rules_shows_what_they_asked() -> None:
    rules, _ = parse({"kind": "any_event", "window": {"type": "last_n_days", "days": 7}})
    cohort, _ = parse({"kind": "in_cohort", "cohortId": "active"})
    assert rules is not None
    assert cohort is not None

    node = explain(Cohorts({"active": rules}).inline(cohort), FACTS, NOW, reveal=lambda path: True)

    assert node == {
        "kind": "in_cohort",
        "truth": False,
        "cohortId": "active",
        "rules": {
            "kind": "any_event",
            "truth": False,
            "evidence": {"total": 0, "counted": 0, "needed": 1, "windowStart": "2026-03-03T12:00:00Z"},
        },
    }


def test_built_in_fields_are_shown_as_texts() -> None:
    leaf, _ = parse(attribute("$subject.created_at", "within", "7d"))
    assert leaf is not None

    node = explain(leaf, Facts(created_at=NOW), NOW, reveal=lambda path: True)

    assert node["evidence"] == {"type": "string", "value": "2026-03-10T12:00:00Z"}
