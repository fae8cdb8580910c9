"""docs/soak.md is what the record says, and the record keeps every run."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.faults.nemesis.run import Run
from tests.faults.nemesis.soak_report import REPORT, kept, read, render

COMMITTED = read()
SOUND = next(run for one in COMMITTED if "run" in one and (run := Run(**one["run"])).sound)
UNSOUND = replace(SOUND, broken=("I5",), recovered=170.9, told=["I5 one wait ended late"])


def test_the_committed_page_is_that_of_the_committed_record() -> None:
    assert REPORT.read_text() == render(COMMITTED), "`python -m tests.faults.nemesis.soak_report` makes it"


def test_a_later_run_of_a_seed_takes_no_earlier_one_away(tmp_path: Path) -> None:
    record, report = tmp_path / "record.jsonl", tmp_path / "soak.md"

    for came in (UNSOUND, SOUND):
        with kept(7, record, report) as runs:
            runs.append(came)

    assert [one["run"] for one in read(record)] == [json.loads(json.dumps(asdict(came))) for came in (UNSOUND, SOUND)]
    assert "2 runs of 1 seeds (7), 1 of them sound" in report.read_text()
    assert "| 1 | 7 | no: I5, recovered late |" in report.read_text()
    assert "- I5 one wait ended late" in report.read_text()


def test_a_run_that_came_to_no_end_is_a_run_that_was_not_sound(tmp_path: Path) -> None:
    record, report = tmp_path / "record.jsonl", tmp_path / "soak.md"
    with kept(7, record, report) as runs:
        runs.append(SOUND)

    with pytest.raises(TimeoutError), kept(8, record, report):
        raise TimeoutError("nobody answered")

    assert "2 runs of 2 seeds (7, 8), 1 of them sound" in report.read_text()
    assert "- Run 2 came to no end: TimeoutError: nobody answered" in report.read_text()


def test_a_run_without_rest_was_not_sound(tmp_path: Path) -> None:
    record, report = tmp_path / "record.jsonl", tmp_path / "soak.md"

    with kept(7, record, report) as runs:
        runs.append(replace(SOUND, recovered=None))

    assert "no: recovered late" in report.read_text()
    assert "| never |" in report.read_text()
