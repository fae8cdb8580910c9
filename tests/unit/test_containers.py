"""The files by which containers are made and started, as far as they can be judged without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.app import COMMANDS
from orchestrator.settings import Settings
from orchestrator.temporal.contract import SEARCH_ATTRIBUTES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_the_compose_file_fits_the_specification() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_command_of_the_compose_file_exists(compose: dict[str, Any]) -> None:
    ours = [service for service in compose["services"].values() if service["image"] == "orchestrator:local"]

    assert len(ours) == 3
    assert {service["command"][0] for service in ours} <= set(COMMANDS)


def test_the_compose_file_makes_every_search_attribute(compose: dict[str, Any]) -> None:
    (script,) = compose["services"]["search-attributes"]["command"]

    assert dict(re.findall(r"--name (\w+) --type (\w+)", script)) == SEARCH_ATTRIBUTES


def test_settings_in_the_compose_file_are_settings(compose: dict[str, Any]) -> None:
    named = {
        name.removeprefix("ORCHESTRATOR_").lower()
        for service in compose["services"].values()
        for name in service.get("environment", {})
        if name.startswith("ORCHESTRATOR_")
    }

    assert named <= Settings.model_fields.keys()


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert int(user) > 0


def test_what_the_build_copies_is_let_through_to_it() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    let_through = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)

    assert set(copied) == set(let_through)
    assert all((ROOT / source).exists() for source in copied)
    assert {"README.md", "LICENSE"} <= set(copied), "the metadata of the package name them"
