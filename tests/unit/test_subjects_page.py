"""docs/subjects.md is true: its numbers are those of the code, and what exports tell is what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.api.field_limits import list_limit
from orchestrator.api.page_tokens import MAX_PAGE_SIZE
from orchestrator.application.subject_exports import GOES_ON_FOR, MAX_PAGE_BYTES
from orchestrator.cli import subjects
from orchestrator.domain.attributes import MAX_BYTES, MAX_DEPTH, MAX_KEYS
from orchestrator.domain.ids import MAX_ID_LENGTH
from orchestrator.domain.preferences import MAX_CHANGES, MAX_REASON_LENGTH
from orchestrator.storage.exporting import PARTS
from orchestrator.v1.subject_service_pb2 import BatchUpsertSubjectsRequest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "subjects.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.split())
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
        ("up to 1,000 records, fewer once they are 1 MiB", (MAX_PAGE_SIZE, MAX_PAGE_BYTES) == (1000, 2**20)),
        ("the key that began the export, for a day", GOES_ON_FOR.total_seconds() == 86_400),
    ],
)
def test_its_numbers_are_those_of_the_code(told: str, is_so: bool) -> None:
    assert told in PAGE
    assert is_so


def test_it_has_each_kind_of_record_of_an_export_with_all_that_it_says() -> None:
    (section,) = re.findall(r"^## Exporting a person$(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", section, re.MULTILINE)

    assert [(kind, re.findall(r"`(\w+)`", said)) for kind, said in rows] == [
        (part.kind, list(part.columns)) for part in PARTS
    ]


def test_the_contract_has_each_kind_of_record_of_an_export() -> None:
    contract = (ROOT / "proto" / "orchestrator" / "v1" / "subject_record.proto").read_text(encoding="utf-8")
    (comment,) = re.findall(r"What it is: (.*?)docs/", contract, re.DOTALL)

    assert re.findall(r"`(\w+)`", comment) == [part.kind for part in PARTS]
