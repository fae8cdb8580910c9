from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchestrator.predicates.check import unkept_windows, unknown_cohorts
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import Predicate


def tree(document: dict[str, Any]) -> Predicate:
    predicate, faults = parse(document)
    assert predicate is not None, faults
    return predicate


def cohort(cohort_id: str) -> dict[str, Any]:
    return {"kind": "in_cohort", "cohortId": cohort_id}


def test_each_unknown_cohort_is_named_where_it_stands() -> None:
    inner = {"kind": "or", "clauses": [cohort("vip"), cohort("gone")]}
    predicate = tree({"kind": "and", "clauses": [cohort("lost"), {"kind": "not", "clause": inner}]})

    faults = unknown_cohorts(predicate, {"vip"}, "predicate")

    assert [(fault.path, fault.reason) for fault in faults] == [
        ("predicate.clauses[0].cohortId", "COHORT_NOT_FOUND"),
        ("predicate.clauses[1].clause.clauses[1].cohortId", "COHORT_NOT_FOUND"),
    ]
    assert [fault.path for fault in unknown_cohorts(tree(cohort("gone")), ())] == ["cohortId"]
    assert unknown_cohorts(predicate, {"vip", "lost", "gone"}) == []


def test_only_a_count_over_a_longer_window_than_events_are_kept_is_refused() -> None:
    def event(at_least: int, window: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "event_fired", "eventName": "buy", "atLeast": at_least, "window": window}

    days = {"type": "last_n_days", "days": 91}
    clauses = [
        event(1, days),
        event(2, {"type": "ever"}),
        event(2, {"type": "since", "time": "2001-01-01T00:00:00Z"}),
        event(2, {"type": "last_n_days", "days": 90}),
        event(2, days),
    ]

    faults = unkept_windows(tree({"kind": "or", "clauses": clauses}), timedelta(days=90), "rules")

    assert [(fault.path, fault.reason) for fault in faults] == [("rules.clauses[4].window", "INVALID_WINDOW")]
