"""When a journey's sends are paused by themselves, and how that is written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.domain.auto_pause import AutoPause, Tally, read_auto_pause
from orchestrator.domain.form_reader import FormReader

RULE = AutoPause(failure_rate=0.5, complaint_rate=0.01, minimum=100, window=timedelta(hours=1))


@pytest.mark.parametrize(
    ("tally", "reason"),
    [
        (Tally(), None),
        (Tally(sends=99, failed=99, complained=99), None),
        (Tally(sends=100, failed=50), None),
        (Tally(sends=100, failed=51), "failure_rate"),
        (Tally(sends=100, complained=1), None),
        (Tally(sends=100, complained=2), "complaint_rate"),
        (Tally(sends=100, failed=51, complained=2), "failure_rate"),
    ],
)
def test_it_trips_above_its_rate_and_not_before_its_minimum(tally: Tally, reason: str | None) -> None:
    assert RULE.tripped_by(tally) == reason


def test_a_rate_of_nothing_trips_at_the_first_and_one_that_is_not_there_never() -> None:
    rule = AutoPause(failure_rate=0, complaint_rate=None, minimum=1)

    assert rule.tripped_by(Tally(sends=1, complained=1)) is None
    assert rule.tripped_by(Tally(sends=1_000_000, failed=1)) == "failure_rate"


def test_what_is_left_out_is_what_is_usual() -> None:
    form = FormReader()

    assert read_auto_pause(form, None, "autoPause") is None
    assert read_auto_pause(form, {"failureRate": 0}, "autoPause") == AutoPause(
        failure_rate=0.0, complaint_rate=None, minimum=100, window=timedelta(hours=1)
    )
    assert form.faults == []


@pytest.mark.parametrize(
    ("written", "faults"),
    [
        ([], [("autoPause", "INVALID_TYPE")]),
        ({}, [("autoPause.failureRate", "REQUIRED")]),
        ({"failureRate": 1}, [("autoPause.failureRate", "OUT_OF_RANGE")]),
        ({"complaintRate": -0.1}, [("autoPause.complaintRate", "OUT_OF_RANGE")]),
        ({"complaintRate": True}, [("autoPause.complaintRate", "INVALID_TYPE")]),
        (
            {"failureRate": "0.5", "minimum": 0, "window": "59s", "x": 1},
            [
                ("autoPause.x", "UNKNOWN_FIELD"),
                ("autoPause.failureRate", "INVALID_TYPE"),
                ("autoPause.minimum", "OUT_OF_RANGE"),
                ("autoPause.window", "OUT_OF_RANGE"),
            ],
        ),
        ({"failureRate": 0.5, "window": "25h"}, [("autoPause.window", "OUT_OF_RANGE")]),
    ],
)
def test_all_that_is_wrong_is_told_with_its_place(written: object, faults: list[tuple[str, str]]) -> None:
    form = FormReader()
    read_auto_pause(form, written, "autoPause")

    assert [(fault.path, fault.reason) for fault in form.faults] == faults
