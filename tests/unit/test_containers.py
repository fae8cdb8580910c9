"""The files by which containers are made and started, as far as they can be judged without an engine."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.app import COMMANDS
from orchestrator.devstack.temporal import DYNAMIC_CONFIG
from orchestrator.exposure import check
from orchestrator.exposure.listeners import SERVER, WORKER
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


def setup_script(compose: dict[str, Any]) -> str:
    """What is run against a new Temporal, as the shell sees it."""
    (script,) = compose["services"]["temporal-setup"]["command"]
    assert isinstance(script, str)
    return script.replace("$$", "$")


def test_temporal_is_configured_as_the_one_that_up_brings_along(compose: dict[str, Any]) -> None:
    temporal = compose["services"]["temporal"]
    (mounted,) = temporal["volumes"]
    file, target, mode = mounted.split(":")
    configured = yaml.safe_load((ROOT / file).read_text())

    assert (temporal["environment"]["DYNAMIC_CONFIG_FILE_PATH"], mode) == (target, "ro")
    assert configured == {name: [{"value": value}] for name, value in DYNAMIC_CONFIG.items()}


def test_ended_executions_are_kept_for_a_week_whether_the_namespace_is_new_or_not(compose: dict[str, Any]) -> None:
    assert compose["services"]["temporal"]["environment"]["DEFAULT_NAMESPACE_RETENTION"] == "168h"
    assert "--retention 168h" in setup_script(compose)


def test_what_runs_once_is_tried_again_and_is_waited_for(compose: dict[str, Any]) -> None:
    services = compose["services"]

    for name in ("migrate", "temporal-setup"):
        assert services[name]["restart"] == "on-failure"
        for service in ("server", "worker"):
            assert services[service]["depends_on"][name] == {"condition": "service_completed_successfully"}


def test_the_database_is_called_healthy_by_those_who_can_reach_it(compose: dict[str, Any]) -> None:
    (_, check) = compose["services"]["postgres"]["healthcheck"]["test"]

    assert "-h 127.0.0.1" in check


def test_the_readme_sets_all_that_the_compose_file_requires(compose: dict[str, Any], tmp_path: Path) -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    ((script, _),) = re.findall(r"^(secret(.*\n)+?)docker compose", (ROOT / "README.md").read_text(), re.MULTILINE)

    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)

    made = dict(entry.split("=") for entry in (tmp_path / ".env").read_text().splitlines())
    assert made.keys() == required | {"ORCHESTRATOR_OPERATOR_KEY"}
    assert all(re.fullmatch(r"[0-9a-z]{32}", secret) for secret in made.values())
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_command_of_the_compose_file_exists(compose: dict[str, Any]) -> None:
    ours = [service for service in compose["services"].values() if service["image"] == "orchestrator:local"]

    assert len(ours) == 3
    assert {service["command"][0] for service in ours} <= set(COMMANDS)


def test_workers_share_a_ledger_of_erasures_that_outlives_them_and_that_they_can_write_to(
    compose: dict[str, Any],
) -> None:
    worker = compose["services"]["worker"]
    directory = worker["environment"]["ORCHESTRATOR_ERASURE_LEDGER"]
    (mounted,) = worker["volumes"]
    image = (ROOT / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (\d+):\1$", image, re.MULTILINE)

    volume, target = mounted.split(":")
    assert (volume in compose["volumes"], target) == (True, directory)
    # Else a new volume would be root's.
    assert f"--owner={user} --group={user} {directory}\n" in image


def test_the_compose_file_makes_every_search_attribute(compose: dict[str, Any]) -> None:
    script = setup_script(compose)

    assert dict(re.findall(r"--name (\w+) --type (\w+)", script)) == SEARCH_ATTRIBUTES


def test_settings_in_the_compose_file_are_settings(compose: dict[str, Any]) -> None:
    named = {
        name.removeprefix("ORCHESTRATOR_").lower()
        for service in compose["services"].values()
        if service["image"] == "orchestrator:local"
        for name in service.get("environment", {})
        if name.startswith("ORCHESTRATOR_")
    }

    assert named <= Settings.model_fields.keys()


def test_what_listens_for_other_containers_may(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {name: secret_of(name) for name in ("ORCHESTRATOR_API_KEY", "DATABASE_PASSWORD")}
    for service, process in (("server", SERVER), ("worker", WORKER)):
        environment = {
            name: re.sub(r"\$\{(\w+):.*\}", lambda variable: secrets.get(variable[1], ""), str(value))
            for name, value in compose["services"][service]["environment"].items()
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        accepted = check(Settings.load(), process, environment=environment)

        assert {exposure.kind for exposure in accepted} == set(Settings.load().accepted_exposures)


def secret_of(name: str) -> str:
    """As the README makes them."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


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
