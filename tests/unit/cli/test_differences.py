"""How what is there and what a file says differ."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli.differences import ABSENT, Difference, differences

STEPS = [{"id": "a", "wait": {"duration": "2d"}, "next": "b"}, {"id": "b", "exit": {}}]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [Difference("a", 1, 2)]),
        ({"a": 1}, {"a": True}, [Difference("a", 1, True)]),
        ({"a": [1]}, {"a": [True]}, [Difference("a", [1], [True])]),
        ({"a": 1}, {"b": None}, [Difference("a", 1, ABSENT), Difference("b", ABSENT, None)]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, [Difference("a.b.c", 1, 2)]),
        ({"a": ["x"]}, {"a": ["x", "y"]}, [Difference("a", ["x"], ["x", "y"])]),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, [Difference("a[1].b", 2, 3)]),
    ],
)
def test_the_smallest_parts_that_differ_are_told(old: Any, new: Any, expected: list[Difference]) -> None:
    assert list(differences(old, new)) == expected


def test_steps_are_told_apart_by_their_ids() -> None:
    new = [STEPS[0] | {"next": "c"}, {"id": "c", "exit": {}}, STEPS[1]]

    assert list(differences({"steps": STEPS}, {"steps": new})) == [
        Difference("steps[a].next", "b", "c"),
        Difference("steps[c]", ABSENT, {"id": "c", "exit": {}}),
    ]


def test_another_order_is_a_difference_for_executions_start_at_the_first() -> None:
    assert list(differences({"steps": STEPS}, {"steps": STEPS[::-1]})) == [
        Difference("steps (order)", ["a", "b"], ["b", "a"])
    ]
