from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.predicates.paths import find, join_path, split_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tier", ("tier",)),
        ("profile.address.city", ("profile", "address", "city")),
        ("a\\.b.c", ("a.b", "c")),
        ("a\\\\.b", ("a\\", "b")),
        ("a\\\\\\.b", ("a\\.b",)),
        (" a . b ", (" a ", " b ")),
        ("$entry.amount", ("$entry", "amount")),
    ],
)
def test_a_path_splits_at_its_unescaped_dots(text: str, names: tuple[str, ...]) -> None:
    assert split_path(text) == names
    assert join_path(names) == text


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "\\", "a\\", "a\\b", "a.\\"])
def test_an_empty_part_or_a_loose_backslash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"empty|backslash"):
        split_path(text)


@given(st.lists(st.text(alphabet="ab.\\$", min_size=1, max_size=4), min_size=1, max_size=4))
def test_joining_and_splitting_are_opposites(names: list[str]) -> None:
    assert split_path(join_path(names)) == tuple(names)


DOCUMENT: dict[str, Any] = {"a": {"b": {"c": 1}, "0": "zero", "n": None}, "l": [{"x": 1}], "s": "text", "a.b": 2}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("a", "b", "c"), 1),
        (("a.b",), 2),
        (("a", "0"), "zero"),
        (("a", "n"), None),
        (("a", "n", "x"), "absent"),
        (("a", "missing"), "absent"),
        (("l", "0"), "absent"),
        (("l", "0", "x"), "absent"),
        (("s", "0"), "absent"),
    ],
)
def test_a_path_walks_objects_only(path: tuple[str, ...], value: object) -> None:
    assert find(DOCUMENT, path, "absent") == value
