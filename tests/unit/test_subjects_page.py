"""The numbers of docs/subjects.md are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.api.field_limits import list_limit
from orchestrator.cli import subjects
from orchestrator.domain.attributes import MAX_BYTES, MAX_DEPTH, MAX_KEYS
from orchestrator.domain.ids import MAX_ID_LENGTH
from orchestrator.domain.preferences import MAX_CHANGES, MAX_REASON_LENGTH
from orchestrator.v1.subject_service_pb2 import BatchUpsertSubjectsRequest

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "subjects.md").read_text().split())
BATCH = list_limit(BatchUpsertSubjectsRequest.DESCRIPTOR.fields_by_name["subjects"])


@pytest.mark.parametrize(
    ("told", "is_so"),
    [
        ("An id has 1 to 128 of", MAX_ID_LENGTH == 128),
        ("at most 64 KiB, 500 members and 24 levels", (MAX_BYTES, MAX_KEYS, MAX_DEPTH) == (64 * 1024, 500, 24)),
        ("does the same for up to 1,000", BATCH == 1000),
        ("for any number, 500 a call", subjects._BATCH == 500),
        ("Up to 100 changes of a call", MAX_CHANGES == 100),
        ("of at most 255 characters", MAX_REASON_LENGTH == 255),
    ],
)
def test_its_numbers_are_those_of_the_code(told: str, is_so: bool) -> None:
    assert told in PAGE
    assert is_so
