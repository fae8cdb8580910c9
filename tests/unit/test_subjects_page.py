"""docs/subjects.md is true of exports."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.storage.exporting import PARTS

ROOT = Path(__file__).parents[2]


def test_the_page_has_each_kind_of_record_with_all_that_it_says() -> None:
    page = (ROOT / "docs" / "subjects.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Exporting a person$(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", section, re.MULTILINE)

    assert {kind: re.findall(r"`(\w+)`", said) for kind, said in rows} == {
        part.kind: list(part.columns) for part in PARTS
    }
    assert [kind for kind, _ in rows] == [part.kind for part in PARTS]


def test_the_contract_has_each_kind_of_record() -> None:
    contract = (ROOT / "proto" / "orchestrator" / "v1" / "subject_record.proto").read_text(encoding="utf-8")
    (comment,) = re.findall(r"What it is: (.*?)docs/", contract, re.DOTALL)

    assert re.findall(r"`(\w+)`", comment) == [part.kind for part in PARTS]
