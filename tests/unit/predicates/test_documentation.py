"""docs/predicates.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from orchestrator.predicates.operands import OPERATORS
from orchestrator.predicates.parse import About, parse
from tests.unit.predicates.test_parse import REFUSED

TEXT = (Path(__file__).parents[3] / "docs" / "predicates.md").read_text("utf-8")


def test_its_examples_are_predicates() -> None:
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]

    assert len(examples) >= 3
    for example in examples:
        assert parse(example, about=About.EXECUTION)[1] == []


def test_it_names_every_operator_and_every_reason() -> None:
    named = set(re.findall(r"`([A-Za-z_]+)`", TEXT))

    assert set(OPERATORS) <= named
    assert {reason for _, faults in REFUSED for _, reason in faults} | {"TOO_DEEP", "LEAF_NOT_ALLOWED"} <= named
