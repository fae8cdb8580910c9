"""What docs/journeys.md says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from orchestrator.domain.audit import CATALOGUE
from orchestrator.domain.journey_form import parse

DOCUMENT = (Path(__file__).parents[3] / "docs" / "journeys.md").read_text(encoding="utf-8")


def rows_under(heading: str) -> list[tuple[str, ...]]:
    """The rows of the table under a heading, without its two head lines."""
    section = DOCUMENT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in section.splitlines() if line[:1] == "|"
    ]
    return rows[2:]


def test_the_example_reads_without_a_fault() -> None:
    block = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    example: dict[str, Any] = yaml.safe_load(block[1])
    definition = {name: example[name] for name in example if name not in ("kind", "id", "name", "description", "goal")}

    assert parse(definition)[1] == []


def test_every_action_on_journeys_is_listed_as_it_is() -> None:
    expected = [
        (f"`{action.name}`", ", ".join(f"`{name}`" for name in action.metadata), action.meaning)
        for action in CATALOGUE.values()
        if action.resource_kind == "journey"
    ]

    assert rows_under("Audit log") == expected
