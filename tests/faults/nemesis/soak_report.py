"""docs/soak.md, made of the runs that `make soak` has gone through.

`python -m tests.faults.nemesis.soak_report` makes it of the record alone.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.checker import INVARIANTS
from tests.faults.field import RECOVERY
from tests.faults.nemesis.run import Run

ROOT = Path(__file__).parents[3]
#: One run a line, in the order in which they ended. Lines are added and none is taken away: what failed stays.
RECORD = Path(__file__).parent / "record.jsonl"
REPORT = ROOT / "docs" / "soak.md"

_HEAD = """# What the soak has shown

Made by `make soak PYTEST="-k nemesis"`, and by nothing else. What a run is stands in [ADR 41](adr/0041-nemesis.md).
Each run stays here, sound or not; the record is [record.jsonl](../tests/faults/nemesis/record.jsonl).
A seed is gone through again with `ORCHESTRATOR_NEMESIS_SEEDS={seed} make soak PYTEST="-k nemesis"`.

{count} runs of {seeds} seeds ({which}), {sound} of them sound, that is: all {invariants} invariants hold, and
{recovery} s after the last fault nothing is left to do. Times are in seconds. *Late* is how much later a wait ended
than it had to; *besides* is what is left of that without the time in which something was away. *Requests* reached the
provider, which took some of them, each message once; the others were repeats, or came when it took none. *Load* is how
many processes of the machine wanted to run, where that was noted.
"""


@contextmanager
def kept(seed: int, record: Path = RECORD, report: Path = REPORT) -> Iterator[list[Run]]:
    """What is put into the list is added to the record as what came of the seed, and the report made anew; also that
    nothing came, since the block was left by an error.
    """
    came: list[Run] = []
    told: dict[str, Any] = {"seed": seed, "began": datetime.now(UTC).isoformat(timespec="seconds"), "commit": _commit()}
    try:
        yield came
    except BaseException as error:
        told["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        told |= {"run": asdict(came[0])} if came else {}
        with record.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(told) + "\n")
        report.write_text(render(read(record)), encoding="utf-8")


def read(record: Path = RECORD) -> list[dict[str, Any]]:
    """All runs of a record, those that came to no end among them."""
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def render(found: Sequence[dict[str, Any]]) -> str:
    """The report of these runs, numbered in their order, each with the commit that it was made on."""
    numbered = list(enumerate(found, start=1))
    runs = [(number, Run(**one["run"])) for number, one in numbered if "run" in one]
    seeds = sorted({one["seed"] for one in found})
    lines = [
        _HEAD.format(
            seed=seeds[0],
            count=len(found),
            seeds=len(seeds),
            which=", ".join(map(str, seeds)),
            sound=sum(run.sound for _, run in runs),
            invariants=len(INVARIANTS),
            recovery=f"{RECOVERY:.0f}",
        )
    ]
    lines += _table(
        ("run", "seed", "sound", "began", "load", "on"),
        (
            (
                number,
                one["seed"],
                _verdict(one),
                one["began"],
                one.get("run", {}).get("busy") or "",
                f"`{one['commit']}`",
            )
            for number, one in numbered
        ),
    )
    lines += _table(
        ("run", "faults in", "executions", "calls (no answer)", "requests (taken)", "invariants", "recovered after"),
        (
            (
                number,
                f"{run.fault_seconds:.0f}",
                run.executions,
                f"{run.calls} ({run.unanswered})",
                f"{run.requests} ({run.accepted})",
                run.held,
                "never" if run.recovered is None else f"{run.recovered:.1f}",
            )
            for number, run in runs
        ),
    )
    lines += _table(
        ("run", "waits", "late p50", "p99", "max", "besides p50", "p99", "max"),
        ((number, run.waits, *run.late.values(), *run.excess.values()) for number, run in runs),
    )
    kinds = sorted({kind for _, run in runs for kind in run.faults})
    lines += _table(
        ("faults of run", *(number for number, _ in runs)),
        ((kind, *(run.faults.get(kind, 0) for _, run in runs)) for kind in kinds),
    )
    outcomes = sorted({outcome for _, run in runs for outcome in run.outcomes})
    lines += _table(
        ("executions that ended in run", *(number for number, _ in runs)),
        (
            *((outcome, *(run.outcomes.get(outcome, 0) for _, run in runs)) for outcome in outcomes),
            ("not let in, since they had opted out", *(run.refused.get("opted_out", 0) for _, run in runs)),
            ("versions of the journey", *(run.versions for _, run in runs)),
        ),
    )
    lines += [f"- Run {number} came to no end: {one['error']}" for number, one in numbered if "run" not in one]
    for number, run in runs:
        if run.told:
            lines += [f"Of run {number}:", "", *(f"- {finding}" for finding in run.told), ""]
    return "\n".join(lines).rstrip() + "\n"


def _verdict(one: dict[str, Any]) -> str:
    """Whether a run was sound, or what was not: the invariants that do not hold, and how late there was rest."""
    if "run" not in one:
        return "no: came to no end"
    run = Run(**one["run"])
    if run.sound:
        return "yes"
    late = run.recovered is None or run.recovered > RECOVERY
    return "no: " + ", ".join([*run.broken, *(["recovered late"] if late else [])])


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    titles = [str(title) for title in head]
    return [_row(titles), _row(["---", *["---:"] * (len(titles) - 1)]), *(_row(map(str, row)) for row in rows), ""]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _commit() -> str:
    """What is gone through, told apart from it where something else than what a run writes was changed."""
    written = [f":(exclude){path.relative_to(ROOT)}" for path in (RECORD, REPORT)]
    commit = _git("rev-parse", "--short=12", "HEAD")
    return f"{commit}-dirty" if _git("status", "--porcelain", "-uno", "--", ".", *written) else commit or "unknown"


def _git(*arguments: str) -> str:
    """What it says; nothing where there is no repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    REPORT.write_text(render(read()), encoding="utf-8")
