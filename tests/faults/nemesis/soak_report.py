"""docs/soak.md, made of the runs that `make soak` has gone through."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.checker import INVARIANTS
from tests.faults.field import RECOVERY
from tests.faults.nemesis.run import Run

ROOT = Path(__file__).parents[3]
#: One file for each seed; the report is made of all of them.
RUNS = ROOT / "build" / "nemesis"
REPORT = ROOT / "docs" / "soak.md"

_HEAD = """# What the soak has shown

Made by `make soak PYTEST="-k nemesis"`, and by nothing else. What a run is stands in [ADR 41](adr/0041-nemesis.md).
A seed is gone through again with `ORCHESTRATOR_NEMESIS_SEEDS={seed} make soak PYTEST="-k nemesis"`.

{count} runs, {sound} of them sound, that is: all {invariants} invariants hold, and {recovery} s after the last fault
nothing is left to do. Times are in seconds. *Late* is how much later a wait ended than it had to; *besides* is what is
left of that without the time in which something was away. *Requests* reached the provider, which took some of them,
each message once; the others were repeats, or came when it took none.
"""


@contextmanager
def kept(seed: int) -> Iterator[list[Run]]:
    """What is put into the list is written down as what came of the seed, and the report anew; also that nothing came,
    since the block was left by an error.
    """
    came: list[Run] = []
    told: dict[str, Any] = {"seed": seed, "commit": _commit()}
    try:
        yield came
    except BaseException as error:
        told["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        RUNS.mkdir(parents=True, exist_ok=True)
        told |= {"run": asdict(came[0])} if came else {}
        (RUNS / f"seed-{seed}.json").write_text(json.dumps(told, indent=1) + "\n")
        REPORT.write_text(render([json.loads(file.read_text()) for file in RUNS.glob("seed-*.json")]))


def render(found: Sequence[dict[str, Any]]) -> str:
    """The report of these seeds, each with the commit that it was made on."""
    by_seed = sorted(found, key=lambda one: one["seed"])
    runs = [(one["commit"], Run(**one["run"])) for one in by_seed if "run" in one]
    lines = [
        _HEAD.format(
            seed=by_seed[0]["seed"],
            count=len(by_seed),
            sound=sum(run.sound for _, run in runs),
            invariants=len(INVARIANTS),
            recovery=f"{RECOVERY:.0f}",
        )
    ]
    lines += _table(
        ("seed", "faults in", "executions", "calls (no answer)", "requests (taken)", "invariants", "recovered after"),
        (
            (
                run.seed,
                f"{run.fault_seconds:.0f}",
                run.executions,
                f"{run.calls} ({run.unanswered})",
                f"{run.requests} ({run.accepted})",
                run.held,
                "never" if run.recovered is None else f"{run.recovered:.1f}",
            )
            for _, run in runs
        ),
    )
    lines += _table(
        ("seed", "waits", "late p50", "p99", "max", "besides p50", "p99", "max"),
        ((run.seed, run.waits, *run.late.values(), *run.excess.values()) for _, run in runs),
    )
    kinds = sorted({kind for _, run in runs for kind in run.faults})
    lines += _table(
        ("faults", *(run.seed for _, run in runs)),
        ((kind, *(run.faults.get(kind, 0) for _, run in runs)) for kind in kinds),
    )
    outcomes = sorted({outcome for _, run in runs for outcome in run.outcomes})
    lines += _table(
        ("executions that ended", *(run.seed for _, run in runs)),
        (
            *((outcome, *(run.outcomes.get(outcome, 0) for _, run in runs)) for outcome in outcomes),
            ("not let in, since they had opted out", *(run.refused.get("opted_out", 0) for _, run in runs)),
            ("versions of the journey", *(run.versions for _, run in runs)),
        ),
    )
    lines += _table(
        ("seed", "began", "processes that wanted to run", "on"),
        ((run.seed, run.began, "" if run.busy is None else run.busy, f"`{commit}`") for commit, run in runs),
    )
    lines += [f"- Seed {one['seed']} came to no end: {one['error']}" for one in by_seed if "run" not in one]
    for _, run in runs:
        if run.told:
            lines += [f"Of seed {run.seed}:", "", *(f"- {finding}" for finding in run.told), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    titles = [str(title) for title in head]
    return [_row(titles), _row(["---", *["---:"] * (len(titles) - 1)]), *(_row(map(str, row)) for row in rows), ""]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"
