from __future__ import annotations

from typing import Any

from orchestrator.predicates.check import too_large, unknown_cohorts
from orchestrator.predicates.cohorts import MAX_INLINED_LEAVES
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


def test_the_cohort_with_which_a_predicate_becomes_too_large_is_named_where_it_stands() -> None:
    """Its own leaves count wherever they stand; those that name a list count as one."""
    everyone = {"kind": "everyone"}
    clauses = [cohort("list"), cohort("wide"), {"kind": "not", "clause": cohort("small")}, everyone, cohort("small")]
    predicate = tree({"kind": "or", "clauses": clauses})
    rest = MAX_INLINED_LEAVES - 2

    assert too_large(predicate, {"wide": rest - 2, "small": 1}, "predicate") == []
    for wide, at in ((rest - 1, "clauses[4]"), (rest, "clauses[2].clause"), (rest + 1, "clauses[1]")):
        (fault,) = too_large(predicate, {"wide": wide, "small": 1}, "predicate")
        assert (fault.path, fault.reason) == (f"predicate.{at}.cohortId", "TOO_LARGE")
