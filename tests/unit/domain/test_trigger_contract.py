"""Trigger contracts: what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.trigger_contract import Contract, completed, edited, faults_in
from orchestrator.predicates.parse import About

CONTRACT = Contract(name="Purchase", event_name="purchase", predicate=None, entry_key_path=None)


OF_SEGMENT = Contract(
    name="Regular", event_name=None, predicate=None, entry_key_path=None, segment_id="regulars", transition="left"
)


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


def test_a_contract_names_an_event_or_a_segment() -> None:
    both = replace(OF_SEGMENT, event_name="purchase", entry_key_path="order.id")
    neither = replace(OF_SEGMENT, segment_id=None)

    assert (faults(OF_SEGMENT), OF_SEGMENT.about, CONTRACT.about) == ([], About.SUBJECT, About.EVENT)
    assert faults(both) == [
        ("triggerContract.segmentId", "INVALID_VALUE"),
        ("triggerContract.entryKeyPath", "INVALID_VALUE"),
    ]
    assert faults(neither) == [
        ("triggerContract.eventName", "EVENT_NAME_REQUIRED"),
        ("triggerContract.transition", "INVALID_VALUE"),
    ]


def test_who_names_a_segment_without_a_way_means_entering_it() -> None:
    assert completed(replace(OF_SEGMENT, transition=None)).transition == "entered"
    assert completed(CONTRACT).transition is None


def test_what_only_one_kind_has_goes_with_it() -> None:
    keyed = replace(CONTRACT, entry_key_path="order.id")

    of_segment = edited(keyed, {"event_name": None, "segment_id": "regulars", "transition": "left"})
    of_event = edited(replace(of_segment, include_definition_changes=True), {"event_name": "e", "segment_id": None})

    assert of_segment == replace(OF_SEGMENT, name="Purchase")
    assert of_event == replace(CONTRACT, event_name="e")
    assert edited(keyed, {"name": "Other"}) == replace(keyed, name="Other")
