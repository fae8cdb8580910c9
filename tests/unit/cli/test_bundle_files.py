"""Bundles in files: what is wrong with one is said before any server is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli.bundle_files import read_bundle, write_bundle
from orchestrator.cli.failure import CommandFailure
from orchestrator.client import messages
from tests.integration.bundle_world import RICH

SOON = "{id: j, name: J, steps: [{id: x, wait: {duration: soon}}]}"


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("formatVersion: 1\nsegments: [{id: s, nmae: S}]", 1, "bundle.yaml: segments[0].nmae: no such field"),
        ("formatVersion: 1\nsegments: [{id: s}]\naudiences: 5", 1, "bundle.yaml: segments[0].name: must be given"),
        ("segments: []", 1, "formatVersion: must be given"),
        (f"formatVersion: 1\njourneys: [{SOON}]", 1, "journeys[0].steps[0].wait.duration"),
        ("formatVersion: 2\nfuture: true", 1, "is a bundle of the form 2, and this command reads the form 1"),
        ("formatVersion: 1\n---\nformatVersion: 1", 2, "has 2 documents"),
        ("[1]", 2, "a bundle is an object"),
        ("", 2, "has 0 documents"),
        ("{", 2, "bundle.yaml"),
        ("a: &a [*a]", 2, "bundle.yaml"),
        ('{"formatVersion": 1, "formatVersion": 1}', 1, "formatVersion"),
        ("[" * 5000, 2, "bundle.yaml"),
    ],
)  # fmt: skip
def test_a_file_that_has_no_good_bundle_is_refused_with_everything_that_is_wrong(
    tmp_path: Path, text: str, code: int, told: str
) -> None:
    path = tmp_path / "bundle.yaml"
    path.write_text(text)

    with pytest.raises(CommandFailure) as refused:
        read_bundle(path)

    assert refused.value.code == code, str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_what_is_written_is_read_and_written_the_same(tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    (tmp_path / "rich.json").write_bytes(json.dumps(RICH).encode())
    bundle = read_bundle(tmp_path / "rich.json")

    write_bundle(bundle, first)
    write_bundle(read_bundle(first), second)

    assert second.read_bytes() == first.read_bytes()
    assert read_bundle(second) == bundle


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandFailure, match=r"no\.yaml cannot be read"):
        read_bundle(tmp_path / "no.yaml")
    with pytest.raises(CommandFailure, match=r"no\.yaml cannot be written"):
        write_bundle(messages.Bundle(), tmp_path / "no" / "no.yaml")
