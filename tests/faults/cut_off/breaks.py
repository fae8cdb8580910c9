"""Connections that break under functions that write, each before its statement is sent, and after its commit."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.cut_off.writers import WRITES
from tests.faults.planted.bugs import HOOK as PLANTING_HOOK
from tests.faults.planted.bugs import Change

HOOK = Path(__file__).parent / "hook"

BEFORE, AFTER = WHEN = ("before", "after")

_AWAY = '__import__("breaking").now_and_then_away'

#: What the product does seldom, or with many at a time, it does while somebody looks; and Temporal is away at times.
HURRIED: Mapping[str, Sequence[Change]] = {
    "workers.sweeper": [
        ("UPKEEP_EVERY = 3600.0", "UPKEEP_EVERY = 2.0"),
        ("WATCH_EVERY = 20.0", "WATCH_EVERY = 2.0"),
    ],
    "orchestrator.application.watchdog": [
        ("PAUSE = timedelta(minutes=1)", "PAUSE = timedelta(0)"),
        ("LEASE = timedelta(minutes=5)", "LEASE = timedelta(seconds=5)"),
    ],
    "orchestrator.application.upkeep": [("SIZES_APART = 1000", "SIZES_APART = 1")],
    "orchestrator.application.given_up_kinds": [("KEPT = timedelta(days=1)", "KEPT = timedelta(0)")],
    "orchestrator.application.derived_events": [("\nSUBJECTS = 100\n", "\nSUBJECTS = 3\n")],
    "orchestrator.storage.erasing": [("\nAT_ONCE = 5000\n", "\nAT_ONCE = 2\n")],
    "orchestrator.application.errands": [
        ("(self._see_to(request) for request", f"({_AWAY}(self._see_to(request), 2) for request")
    ],
    "orchestrator.application.relay": [
        ("told = await self._told(notice)", f"told = await {_AWAY}(self._told(notice), 5)")
    ],
}


@dataclass(frozen=True, slots=True)
class Breaks:
    """The functions of a run, by their modules. What is armed is met once, by whoever comes there next."""

    directory: Path
    functions: Mapping[str, Sequence[str]]

    def environment(self, changes: Mapping[str, Sequence[Change]] | None = None) -> dict[str, str]:
        """What processes are given so that they break; `changes`: of their modules, besides."""
        for name in ("armed", "struck"):
            (self.directory / name).mkdir(parents=True)
        said = {"writes": WRITES.pattern, "functions": dict(self.functions)}
        (self.directory / "writers.json").write_text(json.dumps(said))
        file = self.directory / "changes.json"
        file.write_text(json.dumps({"only": "", "changes": dict(changes or {})}))
        return {
            "PYTHONPATH": str(HOOK),
            "PLANTING_HOOK": str(PLANTING_HOOK),
            "PLANTED": str(file),
            "BROKEN_STATEMENTS": str(self.directory),
        }

    @property
    def names(self) -> set[str]:
        """All that can be met."""
        functions = (f"{module}.{function}" for module, names in self.functions.items() for function in names)
        return {f"{function} {when}" for function in functions for when in WHEN}

    def arm(self, names: Iterable[str], *, idle: Collection[str] = ()) -> None:
        """From now on. `idle`: those that are met after a commit also where they had nothing to write."""
        (self.directory / "outside").unlink(missing_ok=True)
        for name in names:
            (self.directory / "armed" / name).write_text("idle" if name in idle else "")

    def struck(self) -> list[str]:
        """What was met."""
        return sorted(path.name for path in (self.directory / "struck").iterdir())

    def left(self, groups: Collection[str] = ()) -> set[str]:
        """What was armed and was not met yet; any scenario may come to it."""
        del groups
        return {path.name for path in (self.directory / "armed").iterdir()}

    def outside(self) -> set[str]:
        """Statements that have written, and are of none of the functions."""
        file = self.directory / "outside"
        return set(map(json.loads, file.read_text().splitlines())) if file.exists() else set()
