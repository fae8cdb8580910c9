"""bench/latest.json: what was measured last of each bench, when, and of which commit."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from bench.profiles import Profile, Share
from bench.rows import Row

LATEST = Path(__file__).with_name("latest.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Of one bench. `measured_at`: its end, in UTC, as RFC 3339 has it. `commit`: the tree it ran on, with a `+` where
    something was changed besides; empty: unknown. `load`: the machine's at its end, over 1, 5 and 15 minutes. `seconds`
    that it took; None: unknown.
    """

    measured_at: str
    commit: str
    cores: int
    load: tuple[float, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`rows` and `profiles` by bench; each row has a path."""

    runs: Mapping[str, Run] = field(default_factory=dict)
    rows: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    profiles: Mapping[str, Sequence[Profile]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for a row or profile without a path, or of no run."""
        for found in (self.rows, self.profiles):
            for bench, some in found.items():
                if bench not in self.runs:
                    raise ValueError(f"nobody knows when {bench} was measured")
                for one in some:
                    if not one.path:
                        raise ValueError(f"{one.name if isinstance(one, Row) else one.of} is on no path")

    def with_bench(self, bench: str, run: Run, rows: Sequence[Row], profiles: Sequence[Profile]) -> Record:
        """With this in place of what was known of the bench."""
        return replace(
            self,
            runs={**self.runs, bench: run},
            rows={**self.rows, bench: rows},
            profiles={**self.profiles, bench: profiles},
        )

    def of_benches(self, names: Collection[str]) -> Record:
        """In the order of these, and without others: what is measured no more is not kept."""
        return Record(
            runs={name: self.runs[name] for name in names if name in self.runs},
            rows={name: self.rows[name] for name in names if name in self.rows},
            profiles={name: self.profiles[name] for name in names if name in self.profiles},
        )


def read(file: Path = LATEST) -> Record:
    """Raises ValueError if it is none."""
    document = orjson.loads(file.read_bytes())
    return Record(
        runs={name: Run(**{**run, "load": tuple(run["load"])}) for name, run in document["runs"].items()},
        rows=_by_bench(document["rows"], _row),
        profiles=_by_bench(document["profiles"], _profile),
    )


def write(record: Record, file: Path = LATEST) -> None:
    document = {
        "runs": {name: asdict(run) for name, run in record.runs.items()},
        "rows": [_listed(bench, row) for bench, rows in record.rows.items() for row in rows],
        "profiles": [_listed(bench, one) for bench, some in record.profiles.items() for one in some],
    }
    half = file.with_suffix(".half")
    half.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    half.replace(file)


def run_of_now(commit: str, seconds: float) -> Run:
    return Run(
        measured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        commit=commit,
        cores=len(os.sched_getaffinity(0)),
        load=tuple(round(load, 1) for load in os.getloadavg()),
        seconds=round(seconds),
    )


def commit_of_tree() -> str:
    """That of this directory, as Run has it. What the benches themselves write is no change."""
    said = _git("rev-parse", "--short=10", "HEAD")
    written = (":(exclude)bench/latest.json", ":(exclude)docs/performance.md")
    return said + "+" if said and _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *written) else said


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=LATEST.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""  # a tree without git is measured all the same
    return done.stdout.strip()


def _by_bench(listed: Sequence[Mapping[str, Any]], make: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in listed:
        given = dict(one)
        found.setdefault(given.pop("bench"), []).append(make(given))
    return found


def _row(given: dict[str, Any]) -> Row:
    value = math.inf if given["value"] is None else given["value"]
    return Row(**{**given, "value": value, "rounds": tuple(given.get("rounds", ()))})


def _profile(given: dict[str, Any]) -> Profile:
    return Profile(
        **{
            **given,
            "functions": {name: _shares(some) for name, some in given["functions"].items()},
            "statements": _shares(given["statements"]),
            "waits": _shares(given["waits"]),
        }
    )


def _shares(listed: Sequence[Mapping[str, Any]]) -> tuple[Share, ...]:
    return tuple(Share(**one) for one in listed)


def _listed(bench: str, one: Row | Profile) -> dict[str, Any]:
    document = {"bench": bench, **asdict(one)}
    if isinstance(one, Row) and math.isinf(one.value):
        document["value"] = None  # JSON has no word for never
    return document
