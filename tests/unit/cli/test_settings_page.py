"""docs/settings.md says all that can be set, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.cli.settings import CLIENT, GROUPS, page, variable_of
from orchestrator.settings import Settings

ROOT = Path(__file__).parents[3]


def test_the_committed_page_is_that_of_the_settings() -> None:
    committed = (ROOT / "docs" / "settings.md").read_text()

    assert committed == page(), "run `orchestrator settings >docs/settings.md`"


def test_every_setting_is_explained_under_one_heading() -> None:
    grouped = [name for names in GROUPS.values() for name in names]

    assert sorted(grouped) == sorted(Settings.model_fields)
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_variable_that_the_product_names_is_on_the_page() -> None:
    texts = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    texts += [(ROOT / name).read_text() for name in ("docker-compose.yml", "README.md")]
    named = {name for text in texts for name in re.findall(r"ORCHESTRATOR_[A-Z_]*[A-Z]\b", text)}

    explained = {variable_of(name, field) for name, field in Settings.model_fields.items()} | CLIENT.keys()

    assert len(named) > 15
    assert named <= explained
    assert all(f"`{name}`" in page() for name in explained)


def test_limits_and_defaults_are_told() -> None:
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:4]] for cells in _cells()}

    assert rows["`ORCHESTRATOR_GRPC_PORT`"] == ["0 to 65,535", "`50051`"]
    assert rows["`ORCHESTRATOR_WORKER_METRICS_PORT`"] == ["0 to 65,535", ""]
    assert rows["`ORCHESTRATOR_REFLECTION`"] == ["`true`, `false`", "`false`"]
    assert rows["`ORCHESTRATOR_LOG_FORMAT`"] == ["`json`, `text`", "`json`"]
    assert rows["`ORCHESTRATOR_WORKERS`"] == ["1 to 64", "one per core"]
    assert rows["`ORCHESTRATOR_API_KEY`"] == ["secret", ""]


def _cells() -> list[list[str]]:
    return [line.split("|") for line in page().splitlines() if line.startswith("| `")]
