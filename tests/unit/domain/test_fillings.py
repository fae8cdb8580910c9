"""Filling objects in for a subject."""

from __future__ import annotations

from orchestrator.domain.fillings import Copy, Source, Template, fill, templates_in

SOURCE = Source(
    subject_id="ann",
    attributes={"name": "Ann", "tags": ["a", "b"], "gone": None},
    entry={"amount": 5},
    steps={"check": {"score": 7, "deep": {"ok": True}}},
)


def test_copies_keep_the_type_of_what_they_copy() -> None:
    filling = {
        "score": Copy(("$steps", "check", "score")),
        "deep": Copy(("$steps", "check", "deep")),
        "amount": Copy(("$entry", "amount")),
        "tags": Copy(("tags",)),
        "null": Copy(("gone",)),
    }

    filled = fill(filling, SOURCE, {})

    assert filled == {"score": 7, "deep": {"ok": True}, "amount": 5, "tags": ["a", "b"], "null": None}


def test_a_copy_of_what_is_not_there_leaves_its_member_out() -> None:
    missing = Copy(("$steps", "other", "score"))

    assert fill({"a": missing, "b": {"c": missing}, "d": [1, missing, None]}, SOURCE, {}) == {"b": {}, "d": [1, None]}


def test_templates_are_texts_by_their_source() -> None:
    filling = {"a": [Template("{{ x }}")], "b": {"c": Template("{{ y }}")}, "d": "{{ is literal by then }}"}

    assert [*templates_in(filling)] == ["{{ x }}", "{{ y }}"]
    assert fill(filling, SOURCE, {"{{ x }}": "1", "{{ y }}": "{{ z }}"}) == {
        "a": ["1"],
        "b": {"c": "{{ z }}"},
        "d": "{{ is literal by then }}",
    }


def test_templates_read_what_those_of_communications_read() -> None:
    assert SOURCE.variables["subject"] == {"id": "ann", "attributes": SOURCE.attributes}
    assert SOURCE.variables.keys() == {"subject", "entry", "steps"}
