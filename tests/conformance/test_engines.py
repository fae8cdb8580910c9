"""Python's evaluator is what predicates mean; the database says the same of the same subjects."""

from __future__ import annotations

import pytest
from asyncpg import Connection, Record

from tests.conformance.dice import throw
from tests.conformance.engines import Tally, differences, reference
from tests.conformance.tables import write_worlds


async def test_both_engines_say_the_same_of_every_operator_type_and_edge(
    tables_owner: Connection[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()
    for seed in range(4):
        thrown = throw(seed, subjects=150, leaves=260, trees=60)
        tables = await write_worlds(tables_owner, thrown.worlds, thrown.questions.values())

        told = await tables.ask(thrown.questions, thrown.as_of)

        assert list(differences(thrown, reference(thrown), told))[:3] == []
        tally.add(thrown)
    with capsys.disabled():
        print(f"\n{tally}")  # noqa: T201
    fewest, cell = tally.fewest()
    assert fewest > 0, cell
