"""`python -m bench`: all benches, or one; a table on stdout, and bench/latest.json after a whole run."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from bench import (
    audit_log,
    bulk,
    encryption,
    ingest,
    journeys,
    latencies,
    memory,
    overload,
    policies,
    reads,
    segments,
    starts,
    tenancy,
    traces,
    wake_ups,
    wakes,
)
from bench.plan import QUICK, SOAK, WHOLE, Plan
from bench.rows import Row

LATEST = Path(__file__).with_name("latest.json")

BENCHES: dict[str, Callable[[Plan], Awaitable[list[Row]]]] = {
    "journeys": journeys.measure,
    "encryption": encryption.measure,
    "ingest": ingest.measure,
    "reads": reads.measure,
    "http": latencies.measure,
    "starts": starts.measure,
    "memory": memory.measure,
    "wakes": wakes.measure,
    "wake-ups": wake_ups.measure,
    "segments": segments.measure,
    "bulk": bulk.measure,
    "policies": policies.measure,
    "tenancy": tenancy.measure,
    "audit-log": audit_log.measure,
    "overload": overload.measure,
    "traces": traces.measure,
}


def main() -> int:
    """0 when all was measured, whether or not it holds: the table says so."""
    parser = argparse.ArgumentParser(prog="bench", description="Measures the product beside its bare alternatives.")
    parser.add_argument("--only", choices=BENCHES, help="one bench; bench/latest.json stays as it is")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="little of everything; bench/latest.json stays as it is")
    how.add_argument("--soak", action="store_true", help="memory with 20,000 waiting executions")
    asked = parser.parse_args()
    plan = QUICK if asked.quick else SOAK if asked.soak else WHOLE
    rows = asyncio.run(_measure([asked.only] if asked.only else list(BENCHES), plan))
    console = Console()
    console.print(_table(rows))
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}", style="dim", highlight=False)
    if plan is WHOLE and not asked.only:
        LATEST.write_bytes(orjson.dumps(_document(rows), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return 0


async def _measure(names: list[str], plan: Plan) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        began = time.monotonic()
        found = await BENCHES[name](plan)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        for row in found:  # so that they are not lost when a later bench fails
            print(f"  {row.name}: {row.value:,g} {row.unit}", file=sys.stderr)
        rows += found
    return rows


def _table(rows: list[Row]) -> Table:
    table = Table("what", box=None, pad_edge=False, header_style="bold")
    table.add_column("value", justify="right")
    for column in ("unit", "target", "holds"):
        table.add_column(column)
    for row in rows:
        holds = "" if row.holds is None else "[green]yes" if row.holds else "[red]no"
        table.add_row(row.name, f"{row.value:,g}", row.unit, row.target or "", holds)
    return table


def _document(rows: list[Row]) -> dict[str, object]:
    return {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(load, 1) for load in os.getloadavg()],
        "rows": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
