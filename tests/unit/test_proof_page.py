"""docs/proof.md names tests, targets and benches that are there, and the counts that they have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bench.__main__ import BENCHES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "proof.md").read_text()
#: A line of a table, by its number where it has one.
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]

#: `NAME = whole if SOAK else part`: counts that differ.
_COUNT = re.compile(r"^(\w+) = ([\d_]+) if SOAK else ([\d_]+)$", re.MULTILINE)


def files_of(line: str) -> list[Path]:
    return [ROOT / name for name in re.findall(r"`(tests/[\w/]+\.py)`", line)]


def test_it_names_tests_that_are_there() -> None:
    named = [file for line in LINES for file in files_of(line)]

    assert len(set(named)) >= 40
    assert [str(file) for file in named if not file.exists()] == []


def test_it_names_targets_of_make_and_benches_that_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    benches = set(re.findall(r"make bench BENCH=([\w-]+)", PAGE))

    assert set(re.findall(r"`make ([a-z-]+)", PAGE)) <= targets
    assert benches
    assert benches <= BENCHES.keys()


def test_every_bar_stands_once_in_its_order() -> None:
    bars, short = (
        [tuple(map(int, number.split("."))) for number in re.findall(r"^\| (\d\.\d+) \|", part, re.MULTILINE)]
        for part in PAGE.split("## What is short of its bar")
    )

    assert len(bars) >= 40
    assert bars == sorted(set(bars))
    assert set(short) <= set(bars)


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.parametrize("line", [line for line in LINES if any(_COUNT.search(f.read_text()) for f in files_of(line))])
def test_counts_of_the_soak_and_of_every_change_are_those_of_the_tests(line: str) -> None:
    told = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)}

    for file in files_of(line):
        for name, *counts in _COUNT.findall(file.read_text()):
            missing = {int(count) for count in counts} - told - WORKINGS.get(name, set())
            assert missing == set(), f"{file.name} has {name} = {counts}"


#: Of what a test counts, what is not what it shows.
WORKINGS = {"ROUND": {2_000, 1_000}}
