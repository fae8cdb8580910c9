"""From the filters of `POST /audiences` to a predicate."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.documented.filters import EVERYONE
from orchestrator.api.documented.members import meaning_of
from orchestrator.api.documented.row import Given, Meant
from orchestrator.api.documented.rows import ROWS
from orchestrator.api.json_text import parse_json
from orchestrator.predicates.parse import parse


def meaning(body: str) -> Meant:
    (row,) = (row for row in ROWS if row.path == "/audiences")
    return meaning_of(row, Given(document=parse_json(body.encode()), query=[]))


def compiled(body: str) -> Any:
    meant = meaning(body)
    assert meant.faults == []
    predicate = meant.document["predicate"]
    assert parse(predicate)[1] == []
    return predicate


def faults(body: str) -> list[tuple[str, str]]:
    meant = meaning(body)
    return [(fault.path, fault.reason) for fault in meant.faults]


def leaf(path: str, operator: str, value: Any) -> dict[str, Any]:
    return {"kind": "attribute", "fieldPath": path, "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("body", "predicate"),
    [
        ('{"filters": {}}', EVERYONE),
        ('{"filters": {"age": {}, "businessProfile": {}}}', EVERYONE),
        ('{"filters": {"age": {"minAge": 25}}}', leaf("age", "gte", 25)),
        ('{"filters": {"city": ["Rome", "Bonn"]}}', leaf("city", "in", ["Rome", "Bonn"])),
        ('{"filters": {"homeowner": true}}', leaf("homeowner", "equals", True)),
        ('{"filters": {"a": {"b": {"c.d": ["x", 5]}}}}', leaf(r"a.b.c\.d", "in", ["x", 5])),
        ('{"filters": {"home": {"age": {"minAge": 3}}}}', leaf("home.age.minAge", "equals", 3)),
        ('{"filters": {}, "segment": ["s"]}', {"kind": "or", "clauses": [{"kind": "in_cohort", "cohortId": "s"}]}),
        (
            '{"filters": {"age": {"minAge": 25, "maxAge": 45.5}}, "segment": ["s", "t"], "days_back": 7}',
            {
                "kind": "and",
                "clauses": [
                    leaf("age", "gte", 25),
                    leaf("age", "lte", 45.5),
                    {"kind": "or", "clauses": [{"kind": "in_cohort", "cohortId": name} for name in "st"]},
                    {"kind": "any_event", "window": {"type": "last_n_days", "days": 7}},
                ],
            },
        ),
    ],
)
def test_filters_are_and_ed_lists_are_any_of_and_objects_are_paths(body: str, predicate: Any) -> None:
    assert compiled(body) == predicate


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", [("filters", "REQUIRED")]),
        ('{"filters": []}', [("filters", "INVALID_TYPE")]),
        ('{"filters": {"city": []}}', [("filters.city", "REQUIRED")]),
        ('{"filters": {"city": null}}', [("filters.city", "INVALID_TYPE")]),
        ('{"filters": {"city": ["Rome", null, ["x"]]}}',
         [("filters.city[1]", "INVALID_TYPE"), ("filters.city[2]", "INVALID_TYPE")]),
        ('{"filters": {"": ["x"]}}', [("filters.", "INVALID_VALUE")]),
        ('{"filters": {"age": 5}}', [("filters.age", "INVALID_TYPE")]),
        ('{"filters": {"age": {"minAge": "5", "max": 1}}}',
         [("filters.age.max", "UNKNOWN_FIELD"), ("filters.age.minAge", "INVALID_TYPE")]),
        ('{"filters": {"age": {"minAge": null}}}', [("filters.age.minAge", "INVALID_TYPE")]),
        ('{"filters": {"age": {"minAge": 1e999}}}', [("filters.age.minAge", "OUT_OF_RANGE")]),
        ('{"filters": {"age": {"minAge": 50, "maxAge": 40}}}', [("filters.age", "INVALID_VALUE")]),
        ('{"filters": {}, "segment": []}', [("segment", "REQUIRED")]),
        ('{"filters": {}, "segment": ["s", 5, ""]}', [("segment[1]", "INVALID_TYPE"), ("segment[2]", "INVALID_TYPE")]),
        ('{"filters": {}, "segment": "s"}', [("segment", "INVALID_TYPE")]),
        ('{"filters": {}, "days_back": 1.5}', [("days_back", "INVALID_TYPE")]),
        ('{"filters": {}, "days_back": "7"}', [("days_back", "INVALID_TYPE")]),
        ('{"filters": {}, "daysBack": 7}', [("daysBack", "UNKNOWN_FIELD")]),
        ('{"filters": {"city": ["a"], "city": ["b"]}}', [("filters.city", "DUPLICATE_FIELD")]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_where_it_stands(body: str, expected: list[tuple[str, str]]) -> None:
    assert faults(body) == expected


def test_filters_cannot_be_nested_for_ever() -> None:
    assert faults('{"filters": ' + '{"a": ' * 200 + "1" + "}" * 201)[0][1] == "TOO_DEEP"
