"""What docs/journeys.md says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.yaml_text import parse_documents
from orchestrator.domain.entry import EntryRefusal
from orchestrator.domain.journey import Pinned
from orchestrator.domain.journey_form import parse
from orchestrator.domain.journey_graph import Existing, Findings, communications_in, examine, segments_in
from orchestrator.domain.step_forms import STEP_KINDS
from orchestrator.predicates.tree import Everyone

DOCUMENT = (Path(__file__).parents[3] / "docs" / "journeys.md").read_text(encoding="utf-8")


def rows_under(heading: str) -> list[tuple[str, ...]]:
    """The rows of the table under a heading, without its two head lines."""
    section = DOCUMENT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in section.splitlines() if line[:1] == "|"
    ]
    return rows[2:]


def journeys() -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    documents = [document for block in blocks for document in parse_documents(block)]
    return [document for document in documents if document["kind"] == "journey"]


@pytest.mark.parametrize("example", journeys(), ids=lambda example: str(example["id"]))
def test_an_example_could_be_published(example: dict[str, Any]) -> None:
    members = {name: example[name] for name in example if name not in ("kind", "id", "name", "description", "goal")}
    definition, faults = parse(members)
    assert definition is not None, faults
    pin = Pinned(content_revision=1, channel="log", category="marketing")
    everything = Existing(
        communications=dict.fromkeys(communications_in(definition), pin),
        audiences=dict.fromkeys(filter(None, [definition.audience_id]), Everyone()),
        trigger_contracts=set(filter(None, [definition.trigger_contract_id])),
        cohorts=segments_in(definition),
        has_entry_keys=definition.trigger_contract_id is not None or definition.entry_condition is not None,
    )

    assert examine(definition, everything) == Findings(faults=(), warnings=())


def test_the_examples_show_every_kind_of_step_and_of_condition() -> None:
    steps = [step for example in journeys() for step in example["steps"]]

    assert {kind for step in steps for kind in step} == {"id", "next", *STEP_KINDS}
    assert {end for step in steps for end in step.get("wait", ())} == {"duration", "timeOfDay", "date"}
    waited_for = {member for step in steps for member in step.get("waitFor", ())}
    assert waited_for == {"when", "event", "changed", "timeout", "otherwise"}


def test_every_reason_why_somebody_is_not_let_in_is_explained_once() -> None:
    rows = rows_under("What keeps subjects out")

    told = [reason for reasons, _ in rows for reason in re.findall(r"`(\w+)`", reasons)]
    assert sorted(told) == sorted(refusal.value for refusal in EntryRefusal)
