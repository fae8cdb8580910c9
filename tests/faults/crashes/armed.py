"""Where a run's processes are to die, and where they did."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.crashes.point import Point, changes
from tests.faults.planted.bugs import HOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A process that has come to a point at which it was to die. `at` in epoch seconds; `command`: what it was."""

    point: str
    pid: int
    command: str
    at: float


@dataclass(frozen=True, slots=True)
class Crashes:
    """The points of a run. Each strikes once, and only after it was armed."""

    directory: Path
    points: Sequence[Point]

    def environment(self) -> dict[str, str]:
        """What processes are given so that they have the points."""
        for name in ("armed", "struck"):
            (self.directory / name).mkdir(parents=True)
        file = self.directory / "changes.json"
        file.write_text(json.dumps({"only": "", "changes": changes(self.points)}))
        return {"PYTHONPATH": str(HOOK), "PLANTED": str(file), "CRASH_POINTS": str(self.directory)}

    def arm(self, nth: int) -> None:
        """At each of the points whoever comes to it as the n-th from now on dies, in whichever process."""
        for point in self.points:
            (self.directory / "armed" / f"{point.name}.{nth}").touch()

    def deaths(self) -> list[Death]:
        """Those so far, in their order."""
        file = self.directory / "deaths.jsonl"
        return [Death(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    def struck(self) -> list[str]:
        """The points at which somebody has died."""
        return [death.point for death in self.deaths()]

    def left(self, groups: Collection[str]) -> set[str]:
        """The points of these groups at which nobody has died yet."""
        struck = set(self.struck())
        return {point.name for point in self.points if point.group in groups and point.name not in struck}
