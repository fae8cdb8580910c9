"""`python -m bench`: all benches, or some; a table on stdout, bench/latest.json and docs/performance.md.

With `--guard` it is compared with bench/latest.json instead, and nothing is written.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import (
    audit_log,
    bulk,
    checking,
    encryption,
    growth,
    ingest,
    journeys,
    latencies,
    memory,
    overload,
    policies,
    reads,
    record,
    segments,
    starts,
    tenancy,
    traces,
    wake_ups,
    wakes,
)
from bench.page import page
from bench.plan import QUICK, SOAK, WHOLE, Plan
from bench.profiles import Profile
from bench.regressions import LEAST, Comparison, better_of, compared
from bench.rows import Row

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Bench:
    """`path`: that of docs/performance.md on which its rows stand, unless they say otherwise. `by_itself`: only when it
    is asked for by name.
    """

    measure: Callable[[Plan], Awaitable[Sequence[Row | Profile]]]
    path: str
    by_itself: bool = False


BENCHES = {
    "journeys": Bench(journeys.measure, "journeys"),
    "encryption": Bench(encryption.measure, "encryption"),
    "ingest": Bench(ingest.measure, "ingest"),
    "reads": Bench(reads.measure, "reads"),
    "http": Bench(latencies.measure, "http"),
    "starts": Bench(starts.measure, "starts"),
    "memory": Bench(memory.measure, "growth"),
    "wakes": Bench(wakes.measure, "wakes"),
    "wake-ups": Bench(wake_ups.measure, "wakes"),
    "segments": Bench(segments.measure, "segments"),
    "bulk": Bench(bulk.measure, "bulk"),
    "policies": Bench(policies.measure, "policies"),
    "tenancy": Bench(tenancy.measure, "tenancy"),
    "audit-log": Bench(audit_log.measure, "tenancy"),
    "checking": Bench(checking.measure, "checker"),
    "overload": Bench(overload.measure, "overload"),
    "traces": Bench(traces.measure, "traces"),
    "growth": Bench(growth.measure, "growth"),
    "growth-whole": Bench(growth.measure_whole, "growth", by_itself=True),
}


def main() -> int:
    """0 when all was measured, whether or not it holds: the table says so; 1 where a bench has failed. With `--guard`,
    1 where a ratio has become worse.
    """
    asked = _parser().parse_args()
    if asked.page:
        PAGE.write_text(page(record.read()))
        return 0
    plan = QUICK if asked.quick else SOAK if asked.soak else WHOLE
    names = asked.only or [name for name, bench in BENCHES.items() if not bench.by_itself]
    if asked.guard:
        return asyncio.run(_guard(names))
    rows, failed = asyncio.run(_measure_all(names, plan, keep=plan is WHOLE))
    console = Console()
    console.print(_table(rows))
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}", style="dim", highlight=False)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measures the product beside its bare alternatives.")
    parser.add_argument("--only", choices=BENCHES, nargs="+", metavar="NAME", help=f"some of {', '.join(BENCHES)}")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="little of everything; nothing is written")
    how.add_argument("--soak", action="store_true", help="memory with 20,000 waiting executions; nothing is written")
    how.add_argument(
        "--guard", action="store_true", help="fail where a ratio is worse than in bench/latest.json; nothing is written"
    )
    how.add_argument("--page", action="store_true", help="measure nothing: docs/performance.md of bench/latest.json")
    return parser


async def _measure_all(names: Sequence[str], plan: Plan, *, keep: bool) -> tuple[list[Row], list[str]]:
    """What was found, and the names of those that have failed. Each is kept as soon as it is there, and one that fails
    keeps none from being measured: together they take most of an hour.
    """
    commit = record.commit_of_tree()
    rows: list[Row] = []
    failed: list[str] = []
    for name in names:
        try:
            seconds, measured, profiles = await _measure(name, plan)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        rows += measured
        if keep:
            run = record.run_of_now(commit, seconds)
            kept = record.read().with_bench(name, run, measured, profiles).of_benches(list(BENCHES))
            record.write(kept)
            PAGE.write_text(page(kept))
    return rows, failed


async def _measure(name: str, plan: Plan) -> tuple[float, list[Row], list[Profile]]:
    """The seconds that it took, and what was found."""
    began = time.monotonic()
    path = BENCHES[name].path
    found = [replace(one, path=one.path or path) for one in await BENCHES[name].measure(plan)]
    seconds = time.monotonic() - began
    rows = [one for one in found if isinstance(one, Row)]
    print(f"{name}: {seconds:.0f} s", file=sys.stderr)
    for row in rows:
        print(f"  {row.name}: {row.value:,g} {row.unit}", file=sys.stderr)
    return seconds, rows, [one for one in found if isinstance(one, Profile)]


async def _guard(names: Sequence[str]) -> int:
    """What seems worse is measured once more, and the better of the two counts. A bench without ratios is left out; if
    all of them are, nothing was guarded, and that is a failure too.
    """
    committed = record.read()
    found: list[Comparison] = []
    for name in names:
        was = committed.rows.get(name, ())
        if not any(row.ratio is not None for row in was):
            print(f"{name}: bench/latest.json has no ratios of it", file=sys.stderr)
            continue
        once = compared(was, (await _measure(name, WHOLE))[1])
        if any(one.is_regression for one in once):
            again = compared(was, (await _measure(name, WHOLE))[1])
            once = better_of(once, {one.name: one for one in again})
        found += once
    Console().print(_comparison(found))
    worse = [one for one in found if one.is_regression]
    for one in worse:
        now = "was not measured" if one.now is None else f"is {one.now:,g} {one.unit}"
        print(
            f"worse: {one.name} {now}, was {one.committed:,g} {one.unit}: "
            f"{one.worse:.2f} times as bad, and up to {one.allowed:.2f} it may be chance",
            file=sys.stderr,
        )
    return 1 if worse or not found else 0


def _table(rows: Sequence[Row]) -> Table:
    table = Table("what", box=None, pad_edge=False, header_style="bold")
    table.add_column("value", justify="right")
    for column in ("unit", "target", "holds"):
        table.add_column(column)
    for row in rows:
        holds = "" if row.holds is None else "[green]yes" if row.holds else "[red]no"
        table.add_row(row.name, f"{row.value:,g}", row.unit, row.target or "", holds)
    return table


def _comparison(found: Sequence[Comparison]) -> Table:
    table = Table("ratio", box=None, pad_edge=False, header_style="bold")
    for column in ("committed", "now", "worse by", "allowed"):
        table.add_column(column, justify="right")
    for one in found:
        now = "" if one.now is None else f"{one.now:,g}"
        style = "red" if one.is_regression else "yellow" if one.worse > LEAST else ""
        table.add_row(one.name, f"{one.committed:,g}", now, f"{one.worse:.2f}", f"{one.allowed:.2f}", style=style)
    return table


if __name__ == "__main__":
    sys.exit(main())
