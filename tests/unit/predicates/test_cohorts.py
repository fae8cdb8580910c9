from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.predicates.cohorts import (
    MAX_INLINED_COHORTS,
    MAX_INLINED_LEAVES,
    CohortCycle,
    Cohorts,
    TooManyCohorts,
    TooManyLeaves,
)
from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import InCohort, Predicate, leaves


def tree(document: dict[str, Any]) -> Predicate:
    predicate, faults = parse(document)
    assert predicate is not None, faults
    return predicate


def cohort(cohort_id: str) -> dict[str, Any]:
    return {"kind": "in_cohort", "cohortId": cohort_id}


def both(*clauses: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "and", "clauses": list(clauses)}


PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
EVERYONE = {"kind": "everyone"}
AS_OF = datetime(2026, 3, 10, tzinfo=UTC)


def test_rules_answer_for_a_cohort_also_behind_another_and_behind_not() -> None:
    cohorts = Cohorts({"pro": tree(PRO), "others": tree({"kind": "not", "clause": cohort("pro")})})
    asked = cohorts.inline(tree(both(cohort("others"), EVERYONE)))
    pro = Facts(attributes={"tier": "pro"})

    assert not evaluate(asked, pro, AS_OF)
    assert evaluate(asked, Facts(), AS_OF)


def test_lists_and_unknown_names_stay_as_they_are() -> None:
    asked = Cohorts({"pro": tree(both(PRO, cohort("list")))}).inline(tree(both(cohort("pro"), cohort("gone"))))
    on_list = Facts(attributes={"tier": "pro"}, cohorts=frozenset({"list"}), known_cohorts=frozenset({"list"}))

    assert [leaf.cohort_id for leaf in leaves(asked) if isinstance(leaf, InCohort)] == ["pro", "list", "gone"]
    with pytest.raises(Missing, match="segment gone"):
        evaluate(asked, on_list, AS_OF)


@pytest.mark.parametrize(
    ("rules", "way"),
    [
        ({"a": cohort("a")}, ("a", "a")),
        ({"a": cohort("b"), "b": both(EVERYONE, cohort("a"))}, ("a", "b", "a")),
        ({"x": cohort("a"), "a": {"kind": "not", "clause": cohort("b")}, "b": cohort("a")}, ("a", "b", "a")),
    ],
)
def test_a_cycle_is_told_with_its_way(rules: dict[str, dict[str, Any]], way: tuple[str, ...]) -> None:
    cohorts = Cohorts({cohort_id: tree(document) for cohort_id, document in rules.items()})

    with pytest.raises(CohortCycle) as told:
        cohorts.inline(tree(cohort(next(iter(rules)))))

    assert told.value.ids == way


def test_rules_that_grow_a_hundredfold_at_each_level_are_refused_before_they_fill_the_memory() -> None:
    depth = MAX_INLINED_COHORTS
    rules = {f"c{level}": tree(both(*[cohort(f"c{level + 1}")] * 100)) for level in range(depth)}

    with pytest.raises(TooManyLeaves):
        Cohorts({**rules, f"c{depth}": tree(PRO)}).inline(tree(cohort("c0")))


def test_as_many_leaves_as_are_allowed_are_inlined() -> None:
    wide = tree({"kind": "or", "clauses": [PRO] * 200})
    asked = tree({"kind": "or", "clauses": [cohort("wide")] * (MAX_INLINED_LEAVES // 200)})

    inlined = Cohorts({"wide": wide}).inline(asked)

    assert sum(not isinstance(leaf, InCohort) for leaf in leaves(inlined)) == MAX_INLINED_LEAVES


def test_segments_within_each_other_have_an_end() -> None:
    chain = {f"s{n}": tree(cohort(f"s{n + 1}")) for n in range(MAX_INLINED_COHORTS + 1)}
    cohorts = Cohorts({**chain, f"s{MAX_INLINED_COHORTS + 1}": tree(PRO)})

    with pytest.raises(TooManyCohorts):
        cohorts.rules_of("s0")
    asked = cohorts.inline(tree(cohort("s1")))
    assert evaluate(asked, Facts(attributes={"tier": "pro"}), AS_OF)
    with pytest.raises(TooManyCohorts):
        cohorts.rules_of("s0")
