from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.attributes import MAX_BYTES, MAX_DEPTH, MAX_KEYS, merge_patch, size_fault, times_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab.", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.\\", max_size=2), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("ab.\\", max_size=2), JSON, max_size=4)


# The cases of RFC 7396, Appendix A, that have objects on both sides.
@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "foo"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_a_patch_merges_as_rfc_7396_says(target: dict[str, Any], patch: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge_patch(target, patch) == merged


@given(OBJECTS, OBJECTS)
def test_a_patch_applied_twice_is_applied_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(target, patch)

    assert merge_patch(once, patch) == once


def nested(depth: int, kind: str) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth - 1):
        value = {"a": value} if kind == "object" else [value]
    return {"a": value}


@pytest.mark.parametrize("kind", ["object", "list"])
def test_so_deep_and_no_deeper(kind: str) -> None:
    assert size_fault(nested(MAX_DEPTH, kind), "attributes") is None
    fault = size_fault(nested(MAX_DEPTH + 1, kind), "attributes")

    assert fault is not None
    assert (fault.path, fault.reason) == ("attributes", "TOO_DEEP")


def test_any_depth_is_refused_without_exhausting_the_stack() -> None:
    fault = size_fault(nested(100_000, "list"), "attributes")

    assert fault is not None
    assert fault.reason == "TOO_DEEP"


def test_keys_are_counted_at_all_levels() -> None:
    many: dict[str, Any] = {"list": [{str(n): n} for n in range(MAX_KEYS - 1)]}
    assert size_fault(many, "a") is None
    many["one"] = 1
    fault = size_fault(many, "a")

    assert fault is not None
    assert fault.reason == "TOO_LARGE"


def test_size_is_that_of_the_text_in_utf_8() -> None:
    text = "ä" * ((MAX_BYTES - len('{"a":""}')) // 2)
    assert size_fault({"a": text}, "a") is None
    fault = size_fault({"a": text + "ä"}, "a")

    assert fault is not None
    assert fault.reason == "TOO_LARGE"


def test_times_are_found_by_path_through_objects_only() -> None:
    attributes = {
        "at": "1970-01-01T00:00:01Z",
        "profile": {"signup.at": "2024-02-29T12:00:00.123456+02:00", "a\\b": {"c": "1969-12-31T23:59:59.999999Z"}},
        "list": ["2024-02-29T12:00:00Z"],
        "day": "2024-02-29",
        "local": "2024-02-29T12:00:00",
        "never": "2023-02-29T12:00:00Z",
        "number": 5,
    }

    assert times_of(attributes) == {
        "at": 1_000_000,
        "profile.signup\\.at": 1_709_200_800_123_456,
        "profile.a\\\\b.c": -1,
    }
