"""Each operator against each type of stored value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.parse import parse

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
YESTERDAY = "2026-03-09T12:00:00.000001Z"
ABSENT = object()

STORED: dict[str, Any] = {
    "missing": ABSENT,
    "null": None,
    "true": True,
    "false": False,
    "5": 5,
    "5.0": 5.0,
    "6.5": 6.5,
    "text 5": "5",
    "empty text": "",
    "instant": YESTERDAY,
    "array": [5, "5", True],
    "empty array": [],
    "object": {"a": 5},
    "empty object": {},
}
NUMBERS = {"5", "5.0", "6.5"}
EVERYTHING = set(STORED)
PRESENT = EVERYTHING - {"missing", "null"}

# operator, value, the stored values that satisfy it
TABLE: list[tuple[str, Any, set[str]]] = [
    ("exists", None, PRESENT),
    ("not_exists", None, {"missing", "null"}),
    ("equals", 5, {"5", "5.0"}),
    ("equals", 5.0, {"5", "5.0"}),
    ("equals", "5", {"text 5"}),
    ("equals", "", {"empty text"}),
    ("equals", True, {"true"}),
    ("equals", False, {"false"}),
    ("equals", [5.0, "5", True], {"array"}),
    ("equals", [5, "5", 1], set()),
    ("equals", [], {"empty array"}),
    ("equals", {"a": 5.0}, {"object"}),
    ("equals", {}, {"empty object"}),
    ("eq", 5, {"5", "5.0"}),
    ("not_equals", 5, EVERYTHING - {"5", "5.0"}),
    ("neq", True, EVERYTHING - {"true"}),
    ("greater_than", 5, {"6.5"}),
    ("gt", 4.999, NUMBERS),
    ("gte", 5, NUMBERS),
    ("less_than", 6.5, {"5", "5.0"}),
    ("lt", 5, set()),
    ("lte", 5, {"5", "5.0"}),
    ("gt", "2026-03-09T12:00:00Z", {"instant"}),
    ("gte", "2026-03-09T14:00:00.000001+02:00", {"instant"}),
    ("lt", YESTERDAY, set()),
    ("lte", YESTERDAY, {"instant"}),
    ("in", "5", {"5", "5.0", "text 5"}),
    ("in", "5.0", set()),
    ("in", "true, 6.5", {"true", "6.5"}),
    ("in", [5], {"5", "5.0"}),
    ("in", ["5", False, {}], {"text 5", "false", "empty object"}),
    ("in", [1, 0], set()),
    ("contains", 5, {"array"}),
    ("contains", "5", {"array", "text 5"}),
    ("contains", True, {"array"}),
    ("contains", "", {"text 5", "empty text", "instant"}),
    ("contains", "2026", {"instant"}),
    ("not_contains", 5, EVERYTHING - {"array"}),
    ("within", {"days": 1}, {"instant"}),
    ("within", {"hours": 24}, {"instant"}),
    ("within", {"minutes": 1439}, set()),
    ("within", "1d", {"instant"}),
    ("not_within", "1d", EVERYTHING - {"instant"}),
]


def _name(part: object) -> str:
    """The same in every process: sets have an order of their own in each."""
    return repr(sorted(part) if isinstance(part, set | frozenset) else part)[:40]


@pytest.mark.parametrize(("operator", "value", "satisfied_by"), TABLE, ids=_name)
def test_an_operator_is_satisfied_by_exactly_these_stored_values(
    operator: str, value: Any, satisfied_by: set[str]
) -> None:
    document = {"kind": "attribute", "fieldPath": "field", "operator": operator, "value": value}
    predicate, faults = parse(document)
    assert predicate is not None, faults

    holding = {
        name
        for name, stored in STORED.items()
        if evaluate(predicate, Facts(attributes={} if stored is ABSENT else {"field": stored}), NOW)
    }

    assert holding == satisfied_by
