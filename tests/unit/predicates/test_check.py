from __future__ import annotations

from typing import Any

from orchestrator.predicates.check import unknown_cohorts
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
