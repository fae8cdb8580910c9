"""docs/events.md says what the code does with events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.api.field_limits import MAX_BATCH_BYTES, request_bytes
from orchestrator.api.json_enums import words
from orchestrator.domain.attributes import MAX_BYTES, MAX_DEPTH, MAX_KEYS
from orchestrator.domain.event import MAX_BATCH, MAX_EVENT_ID_LENGTH, MAX_NAME_LENGTH
from orchestrator.domain.trigger_contract import MAX_EVENT_AGE
from orchestrator.storage.upkeep import EVENTS_KNOWN
from orchestrator.v1.event_pb2 import Event, EventResult
from orchestrator.v1.event_service_pb2 import IngestEventsRequest

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def rows(head: str) -> list[str]:
    """What the table with this first column is about, row by row."""
    table = PAGE.split(f"| {head} |", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_every_member_of_an_event_is_explained() -> None:
    assert rows("member") == [field.json_name for field in Event.DESCRIPTOR.fields]


def test_every_status_of_a_result_is_explained() -> None:
    assert rows("`status`") == list(words(EventResult.Status.DESCRIPTOR).values())


@pytest.mark.parametrize(
    ("told", "is_so"),
    [
        ("takes up to 1,000 events", MAX_BATCH == 1000),
        ("and 4 MiB", request_bytes(IngestEventsRequest.DESCRIPTOR) == MAX_BATCH_BYTES == 4 * 2**20),
        ("yours, 1 to 128 characters", MAX_EVENT_ID_LENGTH == 128),
        ("what happened, 1 to 128 characters", MAX_NAME_LENGTH == 128),
        ("at most 64 KiB, 500 members and 24 levels", (MAX_BYTES, MAX_KEYS, MAX_DEPTH) == (64 * 1024, 500, 24)),
        ("within the last 30 days", EVENTS_KNOWN.days == 30),
        ("24 hours where it says nothing", MAX_EVENT_AGE.total_seconds() == 24 * 3600),
    ],
)
def test_its_numbers_are_those_of_the_code(told: str, is_so: bool) -> None:
    assert told in " ".join(PAGE.split())
    assert is_so
