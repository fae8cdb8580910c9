"""Statements are told by the constants that hold them."""

from __future__ import annotations

import pytest
from bench.statements import name_of

SHORT = "SELECT name FROM segments WHERE project_no = $1"
LONG = "SELECT " + ", ".join(f"column_{number}" for number in range(300)) + " FROM events"
NAMES = {SHORT: "storage.segments._NAME", LONG: "storage.events._ALL", f"{LONG} LIMIT 1": "storage.events._ONE"}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("\n  SELECT name\n    FROM segments\n   WHERE project_no = $1;\n", "storage.segments._NAME"),
        ("COMMIT;", "COMMIT"),
        ("SELECT name FROM segments WHERE project_no = 1", "SELECT name FROM segments WHERE project_no = 1"),
        ("SELECT " + "x" * 100, "SELECT " + "x" * 64 + "…"),
        (LONG, "storage.events._ALL"),
    ],
)
def test_a_statement_is_told_by_its_constant_and_else_by_how_it_begins(query: str, name: str) -> None:
    assert name_of(query, NAMES) == name


def test_one_that_was_cut_off_is_told_by_the_only_constant_that_begins_so() -> None:
    cut_off = LONG[:1023]

    assert name_of(cut_off, {LONG: "storage.events._ALL"}) == "storage.events._ALL"
    assert name_of(cut_off, NAMES).startswith("SELECT column_0")
