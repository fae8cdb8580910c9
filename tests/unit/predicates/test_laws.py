"""What holds for every predicate and every subject."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.explain import explain
from orchestrator.predicates.flip import next_flip
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import AllOf, AnyOf, Not, Predicate
from tests.conformance.worlds import World, facts_for
from tests.unit.predicates import oracle
from tests.unit.predicates.documents import (
    INSTANTS,
    KNOWN_COHORTS,
    NOW,
    SPANS,
    TICK,
    Document,
    attribute_leaves,
    document_leaves,
    documents,
    event_leaves,
    instants,
    worlds,
)

COMPLEMENTS = {
    "event_fired": "event_not_fired",
    "equals": "not_equals",
    "eq": "neq",
    "exists": "not_exists",
    "contains": "not_contains",
    "within": "not_within",
}
COMPLEMENTS |= {negative: positive for positive, negative in COMPLEMENTS.items()}


def tree(document: Document) -> Predicate:
    predicate, faults = parse(document, about=About.EXECUTION)
    assert predicate is not None, faults
    return predicate


def answer(predicate: Predicate, world: World, as_of: datetime = NOW) -> bool | str:
    """The truth, or the cohort that is missing."""
    try:
        return evaluate(predicate, facts_for(predicate, world), as_of)
    except Missing as missing:
        return missing.id


@given(documents, worlds(), st.sampled_from([NOW, NOW + TICK, *INSTANTS]))
def test_the_evaluator_agrees_with_a_naive_reading_of_the_document(
    document: Document, world: World, as_of: datetime
) -> None:
    assert answer(tree(document), world, as_of) is oracle.holds(document, world, as_of)


@given(document_leaves, worlds(), instants)
def test_each_leaf_agrees_with_a_naive_reading_of_it(document: Document, world: World, as_of: datetime) -> None:
    assert answer(tree(document), world, as_of) is oracle.holds(document, world, as_of)


@given(documents, worlds(known_cohorts=KNOWN_COHORTS))
def test_a_missing_cohort_is_reported_whatever_the_answer(document: Document, world: World) -> None:
    gone = oracle.gone(document, world)

    assert answer(tree(document), world) == (gone if gone is not None else oracle.holds(document, world, NOW))


@given(documents, worlds(), instants)
def test_a_predicate_and_its_negation_never_agree(document: Document, world: World, as_of: datetime) -> None:
    predicate = tree(document)

    assert answer(Not(clause=predicate), world, as_of) is not answer(predicate, world, as_of)
    assert answer(Not(clause=Not(clause=predicate)), world, as_of) is answer(predicate, world, as_of)


@given(event_leaves() | attribute_leaves(), worlds(), instants)
def test_each_negative_leaf_is_exactly_the_opposite(document: Document, world: World, as_of: datetime) -> None:
    if document["kind"] == "attribute":
        if document["operator"] not in COMPLEMENTS:
            return
        opposite = {**document, "operator": COMPLEMENTS[document["operator"]]}
    else:
        opposite = {**document, "kind": COMPLEMENTS[document["kind"]]}

    assert answer(tree(opposite), world, as_of) is not answer(tree(document), world, as_of)


@given(st.lists(documents, min_size=1, max_size=4), worlds(known_cohorts=KNOWN_COHORTS))
def test_de_morgan_holds_for_missing_cohorts_too(clauses: list[Document], world: World) -> None:
    trees = tuple(map(tree, clauses))

    neither = answer(Not(clause=AnyOf(clauses=trees)), world)

    assert neither == answer(AllOf(clauses=tuple(Not(clause=clause) for clause in trees)), world)


@given(st.lists(documents, min_size=2, max_size=4), st.randoms(use_true_random=False), worlds(KNOWN_COHORTS))
def test_the_order_of_clauses_is_nothing(clauses: list[Document], random: Any, world: World) -> None:
    shuffled = random.sample(clauses, len(clauses))

    for kind in ("and", "or"):
        first, second = ({"kind": kind, "clauses": order} for order in (clauses, shuffled))
        assert answer(tree(first), world) == answer(tree(second), world)


@given(documents)
def test_reading_changes_nothing_and_survives_storage(document: Document) -> None:
    before = copy.deepcopy(document)

    predicate = tree(document)

    assert json.dumps(document) == json.dumps(before)
    assert tree(json.loads(json.dumps(document))) == predicate
    assert tree(dict(reversed(document.items()))) == predicate


def boundaries(as_of: datetime, until: datetime) -> Iterator[datetime]:
    """Every instant before `until` at which anything could happen, and its neighbours."""
    yield as_of
    for instant in INSTANTS:
        for span in (timedelta(0), *SPANS.values()):
            for shift in (-TICK, timedelta(0), TICK):
                if as_of < instant + span + shift < until:
                    yield instant + span + shift


@given(documents, worlds(), instants)
def test_no_answer_changes_before_its_next_flip(document: Document, world: World, as_of: datetime) -> None:
    predicate = tree(document)
    facts = facts_for(predicate, world)

    flip = next_flip(predicate, facts, as_of)

    until = flip if flip is not None else NOW + timedelta(days=10_000)
    assert until > as_of
    now = evaluate(predicate, facts, as_of)
    for instant in (*boundaries(as_of, until), until - TICK):
        assert evaluate(predicate, facts, instant) is now, instant


@given(event_leaves() | attribute_leaves(), worlds(), instants)
def test_a_single_leaf_changes_exactly_at_its_next_flip(document: Document, world: World, as_of: datetime) -> None:
    predicate = tree(document)
    facts = facts_for(predicate, world)

    flip = next_flip(predicate, facts, as_of)

    if flip is not None:
        assert evaluate(predicate, facts, flip) is not evaluate(predicate, facts, as_of)


@given(documents, worlds(known_cohorts=KNOWN_COHORTS), instants)
def test_an_explanation_says_what_evaluation_says(document: Document, world: World, as_of: datetime) -> None:
    predicate = tree(document)

    explained = explain(predicate, facts_for(predicate, world), as_of, reveal=lambda _: True)

    expected = answer(predicate, world, as_of)
    assert explained["truth"] is (expected if isinstance(expected, bool) else None)
    assert explained["kind"] == document["kind"]
    assert json.loads(json.dumps(explained)) == explained
