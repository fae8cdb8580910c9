from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.event import is_named, naming_faults


@pytest.mark.parametrize("name", ["purchase", "Order placed", "é" * 128, "$.x", "a", "nbsp\u00a0inside"])
def test_names_are_free_text(name: str) -> None:
    assert naming_faults("e1", name, "user-1", "events[0]") == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "REQUIRED"),
        ("x" * 129, "TOO_LONG"),
        (" a", "INVALID_VALUE"),
        ("a ", "INVALID_VALUE"),
        (" ", "INVALID_VALUE"),
        ("a\nb", "INVALID_VALUE"),
        ("a\x00", "INVALID_VALUE"),
        ("\x7f", "INVALID_VALUE"),
    ],
)
def test_names_that_nobody_could_read_are_faults(name: str, reason: str) -> None:
    faults = naming_faults("e1", name, "user-1", "events[0]")

    assert [(fault.path, fault.reason) for fault in faults] == [("events[0].name", reason)]


def test_everything_wrong_with_an_event_is_named() -> None:
    faults = naming_faults("", "", "a b", "events[7]")

    assert [(fault.path, fault.reason) for fault in faults] == [
        ("events[7].eventId", "REQUIRED"),
        ("events[7].name", "REQUIRED"),
        ("events[7].subjectId", "INVALID_ID"),
    ]


@given(st.text(max_size=130), st.text(max_size=130), st.text(max_size=130))
def test_the_short_answer_agrees_with_the_long_one(event_id: str, name: str, subject_id: str) -> None:
    assert is_named(event_id, name, subject_id) == (not naming_faults(event_id, name, subject_id, ""))
