"""Trigger contracts: what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.trigger_contract import Contract, faults_in

CONTRACT = Contract(name="Purchase", event_name="purchase", predicate=None, entry_key_path=None)


def faults(contract: Contract) -> list[tuple[str, str]]:
    return [(fault.path, fault.reason) for fault in faults_in(contract, "triggerContract")]


def test_a_contract_takes_events_of_the_last_day_unless_it_says_otherwise() -> None:
    assert CONTRACT.max_event_age == timedelta(hours=24)
    assert faults(CONTRACT) == []


def test_all_faults_come_together() -> None:
    contract = Contract(
        name=" ", event_name="", predicate=None, entry_key_path="a..b", max_event_age=timedelta(milliseconds=999)
    )

    assert faults(contract) == [
        ("triggerContract.name", "REQUIRED"),
        ("triggerContract.eventName", "EVENT_NAME_REQUIRED"),
        ("triggerContract.entryKeyPath", "INVALID_VALUE"),
        ("triggerContract.maxEventAge", "OUT_OF_RANGE"),
    ]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [("order placed", []), ("x" * 128, []), ("x" * 129, ["TOO_LONG"]), (" x", ["INVALID_VALUE"])],
)
def test_the_event_is_one_that_could_be_taken_in(name: str, reasons: list[str]) -> None:
    assert [reason for _, reason in faults(replace(CONTRACT, event_name=name))] == reasons


@pytest.mark.parametrize("path", ["order_id", "order.id", r"order\.id", "$set.id"])
def test_an_entry_key_is_a_path_into_the_properties(path: str) -> None:
    assert faults(replace(CONTRACT, entry_key_path=path)) == []


@pytest.mark.parametrize(
    "path", ["", ".", "a.", "a\\", "$entry.order_id", "$steps.a.b", "$subject.time_zone", "x" * 9000]
)
def test_other_entry_keys_are_refused(path: str) -> None:
    [(at, _)] = faults(replace(CONTRACT, entry_key_path=path))

    assert at == "triggerContract.entryKeyPath"


@pytest.mark.parametrize(
    ("age", "fine"),
    [
        (timedelta(seconds=1), True),
        (timedelta(days=730), True),
        (timedelta(0), False),
        (timedelta(days=730, microseconds=1), False),
    ],
)
def test_events_are_a_second_to_two_years_old(age: timedelta, fine: bool) -> None:
    assert (faults(replace(CONTRACT, max_event_age=age)) == []) is fine
