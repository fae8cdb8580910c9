"""Python's evaluator is what predicates mean; the database says the same of the same subjects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from asyncpg import Connection, Record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import AllOf
from tests.conformance.dice import Throw, throw
from tests.conformance.engines import Tally, first_difference
from tests.conformance.worlds import World, facts_for
from tests.unit.predicates.documents import NOW, documents, worlds


async def test_both_engines_say_the_same_of_every_operator_type_and_edge(
    tables_owner: Connection[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()
    for seed in range(4):
        thrown = throw(seed, subjects=200, leaves=330, trees=60)

        assert await first_difference(tables_owner, thrown) is None
        tally.add(thrown)
    with capsys.disabled():
        print(f"\n{tally}")  # noqa: T201
    fewest, cell = tally.fewest()
    assert fewest > 0, cell


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(st.lists(worlds(), min_size=1, max_size=6), st.lists(documents, min_size=1, max_size=12))
async def test_both_engines_say_the_same_of_whatever_can_be_written(
    tables_owner: Connection[Record], subjects: list[World], asked: list[dict[str, Any]]
) -> None:
    questions = {}
    for number, document in enumerate(asked, 1):
        predicate, faults = parse(document, about=About.EXECUTION)
        assert predicate is not None, faults
        questions[number] = predicate
    # No event has started anything where many subjects are asked about.
    without_entry = [replace(subject, entry={}) for subject in subjects]
    everything = AllOf(clauses=tuple(questions.values()))
    thrown = Throw(
        as_of=NOW,
        worlds=without_entry,
        facts=[facts_for(everything, subject) for subject in without_entry],
        documents=dict(enumerate(asked, 1)),
        questions=questions,
    )

    assert await first_difference(tables_owner, thrown) is None
