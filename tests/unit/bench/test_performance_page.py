"""docs/performance.md is what bench/latest.json says, and nothing else."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from bench import record
from bench.__main__ import BENCHES, PAGE
from bench.page import page
from bench.paths import PATHS
from bench.profiles import Profile, Share
from bench.record import Record, Run
from bench.rows import Row, at_least, at_most, beside

RUN = Run(measured_at="2026-11-30T16:00:00Z", commit="4381acc598", cores=2, load=(1.5, 1.0, 0.5), seconds=60)
ROW = at_least(1.25, "journeys, against a plain workflow", 1.4, "×", "on a quiet machine", against="a plain workflow",
               rounds=(1.3, 1.4, 1.5), path="journeys")  # fmt: skip
COMMITTED = record.read()
ROWS = list(chain.from_iterable(COMMITTED.rows.values()))


def of(*rows: Row, profiles: tuple[Profile, ...] = ()) -> Record:
    return Record().with_bench("journeys", RUN, rows, profiles)


def test_the_page_is_made_from_the_committed_file() -> None:
    assert PAGE.read_text() == page(COMMITTED), "`python -m bench --page` makes it"


def test_every_bench_is_on_a_path_and_every_path_has_a_bench() -> None:
    assert {bench.path for bench in BENCHES.values()} == set(PATHS)


def test_names_of_rows_are_their_own() -> None:
    names = [row.name for row in ROWS]

    assert sorted(names) == sorted(set(names))


def test_every_ratio_says_what_it_is_against() -> None:
    assert [row.name for row in ROWS if row.unit == "×" and not row.against] == []


@pytest.mark.parametrize(
    "name",
    [
        "journeys, against a plain workflow",
        "history of a journey",
        "ingest over gRPC",
        "ingest at the application layer",
        "ingest, against bare COPY into events alone",
        "GetJourney, against a bare handler",
        "event accepted → workflow started, p50",
        "event accepted → workflow started, p99",
        "bare eager start, p50",
        "worker memory, 1,000 → 5,000 waiting",
        "wake lateness at half the capacity, p99",
        "event accepted → execution has gone on, p99",
        "50 segments, whole pass",
        "whole pass, against as many statements by hand",
        "whole pass, of ten times as many subjects",
        "memory of passes, of ten times as many subjects",
        "1 % of the subjects, through the inbox",
        "whole pass, against 1 % of the subjects",
        "a segment more, from 50 to 200 against from 1 to 10",
        "CheckAudience, p99",
        "event → membership at 100 events/s while a sweep runs, p99",
        "a crowd enrolled by a job, against bare starts",
        "event → first row beside a job at half of that, p99 against quiet",
        "policy of 1,000,000 choices",
    ],
)
def test_what_was_promised_to_be_measured_is_on_the_page(name: str) -> None:
    assert f"| {name} |" in PAGE.read_text()


def test_a_row_without_a_path_fails() -> None:
    with pytest.raises(ValueError, match="journeys, against a plain workflow is on no path"):
        of(replace(ROW, path=""))


def test_a_row_on_a_path_that_there_is_none_of_fails() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        page(of(replace(ROW, path="nowhere")))


def test_a_row_stands_with_its_target_its_alternative_and_when_it_was_measured() -> None:
    made = page(of(ROW))

    assert "| journeys, against a plain workflow | 1.4 × | ≥ 1.25 | yes | a plain workflow |" in made
    assert "- journeys, against a plain workflow: on a quiet machine; ratios of the rounds 1.3 1.4 1.5" in made
    assert "`journeys`: 2026-11-30 16:00 UTC of commit 4381acc598, 2 cores, load 1.5." in made
    assert "Targets that are met: 1 of 1." in made


def test_missed_targets_come_first_with_a_link_to_their_path() -> None:
    missed = at_most(1.1, "read under row-level security", 1.3, "×", against="without", path="tenancy")
    made = page(of(ROW, missed))

    assert (
        "| read under row-level security | 1.3 × | ≤ 1.1 | [Tenancy, keys and audit](#tenancy-keys-and-audit) |"
        in (made[: made.index("## Journeys")])
    )
    assert "| read under row-level security | 1.3 × | ≤ 1.1 | **no** | without |" in made


def test_a_path_that_was_not_measured_says_so() -> None:
    made = page(of(ROW))

    assert made.count("Not measured yet.") == len(PATHS) - 1
    assert [line[3:] for line in made.splitlines() if line.startswith("## ")] == [path.title for path in PATHS.values()]


@pytest.mark.parametrize(
    ("cores", "bound"),
    [
        (
            {"postgres": 0.4, "temporal": 1.0, "worker": 0.5},
            "Bound by cores: 1.90 of 2 were busy, and 53 % of that was temporal.",
        ),
        (
            {"postgres": 0.2, "temporal": 0.0, "server": 0.95},
            "Bound by the one core that server can use (0.95); 1.15 of 2 were busy.",
        ),
        (
            {"postgres": 0.9, "temporal": 0.1, "worker": 0.2},
            "Not bound by cores: 1.20 of 2 were busy, most of it postgres (0.90). "
            "Connections in a transaction mostly wait for: IO WalSync (30 %).",
        ),
    ],
)  # fmt: skip
def test_what_bounds_a_path_is_read_off_its_profile(cores: dict[str, float], bound: str) -> None:
    profile = Profile(
        of="1,000 journeys",
        seconds=12.5,
        cores=cores,
        functions={"worker": (Share(name="application.advance.Advance.advance", percent=60.0),)},
        statements=(Share(name="storage.visits._RECORD", percent=98.0),),
        waits=(Share(name="nothing: on a core, or about to be", percent=70.0), Share(name="IO WalSync", percent=30.0)),
        busy=1.2,
        path="journeys",
    )

    made = page(of(ROW, profiles=(profile,)))

    assert f"**{bound}**" in made
    assert "| `application.advance.Advance.advance` | 60 % |\n| all else | 40 % |" in made
    assert "| `storage.visits._RECORD` | 98 % |" in made


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    profile = Profile(
        of="1,000 journeys",
        seconds=12.5,
        cores={"worker": 0.5},
        functions={"worker": (Share(name="workers.inbox.work", percent=60.0),)},
        statements=(Share(name="COMMIT", percent=98.0),),
        busy=1.2,
        path="journeys",
    )
    never = at_most(5, "back", math.inf, "s", path="overload")
    whole = of(ROW, never, profiles=(profile,))

    record.write(whole, tmp_path / "latest.json")
    found = record.read(tmp_path / "latest.json")

    assert page(found) == page(whole)
    assert found.rows["journeys"] == [ROW, never]
    assert found.profiles["journeys"] == [profile]
    assert "| back | never | ≤ 5 | **no** |" in page(found)


def test_one_bench_measured_anew_leaves_the_others_as_they_are() -> None:
    reads = beside("GetJourney", 1900, "/s", path="reads")
    before = of(ROW).with_bench("reads", RUN, [reads], ()).with_bench("gone", RUN, [replace(ROW, name="gone")], ())
    later = replace(RUN, measured_at="2026-12-01T08:00:00Z", commit="598a276000+")
    faster = replace(ROW, value=1.5)

    after = before.with_bench("journeys", later, [faster], ()).of_benches(list(BENCHES))

    assert after.rows == {"journeys": [faster], "reads": [reads]}
    assert after.runs == {"journeys": later, "reads": RUN}
    assert list(after.rows) == ["journeys", "reads"]


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE.read_text())
    anchors = {f"#{''.join(c for c in t.lower().replace(' ', '-') if c.isalnum() or c == '-')}"
               for t in re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)}  # fmt: skip

    assert links
    assert [link for link in links if not (link in anchors or (PAGE.parent / link).exists())] == []
