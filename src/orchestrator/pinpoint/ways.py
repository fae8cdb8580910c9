"""Which activities come after which."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from orchestrator.pinpoint.finding import Discoveries
from orchestrator.pinpoint.reading import place, placed

#: What an activity does: one of these members.
KINDS = (
    "EMAIL",
    "SMS",
    "PUSH",
    "CUSTOM",
    "ContactCenter",
    "Wait",
    "ConditionalSplit",
    "MultiCondition",
    "RandomSplit",
    "Holdout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """`body` is the member of its kind, and `path` leads there."""

    id: str
    kind: str
    body: Mapping[str, Any]
    path: str
    description: str | None

    def ways(self) -> Iterator[tuple[str, str]]:
        """The path of each name of an activity that comes next, and the name; an end is no way."""
        places: list[tuple[str, Any]] = []
        match self.kind:
            case "ConditionalSplit":
                places += [(place(self.path, name), self.body.get(name)) for name in ("TrueActivity", "FalseActivity")]
            case "MultiCondition":
                branches = placed(self.body.get("Branches") or [], place(self.path, "Branches"))
                places += [(place(at, "NextActivity"), branch.get("NextActivity")) for at, branch in branches]
                places.append((place(self.path, "DefaultActivity"), self.body.get("DefaultActivity")))
            case "RandomSplit":
                branches = placed(self.body.get("Branches") or [], place(self.path, "Branches"))
                places += [(place(at, "NextActivity"), branch.get("NextActivity")) for at, branch in branches]
            case _:
                places.append((place(self.path, "NextActivity"), self.body.get("NextActivity")))
        for at, name in places:
            if name:
                yield at, name


@dataclass(slots=True)
class Activities:
    """The activities of a journey by their ids, those first that executions come to first."""

    found: Discoveries
    journey: Mapping[str, Any]
    path: str
    by_id: dict[str, Activity] = field(default_factory=dict)
    start: str = ""

    def __post_init__(self) -> None:
        read = {}
        written = self.journey.get("Activities") or {}
        for (at, body), activity_id in zip(placed(written, place(self.path, "Activities")), written, strict=True):
            activity = self._activity(activity_id, body or {}, at)
            if activity is not None:
                read[activity_id] = activity
        self.start = self.journey.get("StartActivity") or ""
        at = place(self.path, "StartActivity")
        if self.start and self.start not in written:
            self.found.fault(at, "NEXT_NOT_FOUND", f"there is no activity {self.start[:100]}")
        elif read and not self.start:
            self.found.fault(at, "REQUIRED", "says where participants start")
        if not self.found.is_faulty:
            self._check_ways(read)
        self.by_id = {activity_id: read[activity_id] for activity_id in self._order(read)}

    def _activity(self, activity_id: str, body: Mapping[str, Any], path: str) -> Activity | None:
        kinds = [kind for kind in KINDS if body.get(kind) is not None]
        if len(kinds) != 1:
            what = "none" if not kinds else " and ".join(kinds)
            self.found.fault(path, "INVALID_VALUE", f"an activity is one of {', '.join(KINDS)}: this one is {what}")
            return None
        (kind,) = kinds
        return Activity(
            id=activity_id, kind=kind, body=body[kind], path=place(path, kind), description=body.get("Description")
        )

    def _check_ways(self, read: Mapping[str, Activity]) -> None:
        for activity in read.values():
            for at, name in activity.ways():
                if name not in read:
                    self.found.fault(at, "NEXT_NOT_FOUND", f"there is no activity {name[:100]}")
        try:
            TopologicalSorter({one.id: [name for _, name in one.ways()] for one in read.values()}).prepare()
        except CycleError as error:
            way: list[str] = error.args[1]
            at = read[way[-1]].path if way[-1] in read else self.path
            shown = " → ".join(name[:40] for name in reversed(way[:10]))
            self.found.fault(at, "CYCLE", f"a journey never goes back to an activity: {shown}")

    def _order(self, read: Mapping[str, Activity]) -> list[str]:
        order: dict[str, None] = {}
        pending = deque([self.start])
        while pending:
            activity_id = pending.popleft()
            if activity_id in read and activity_id not in order:
                order[activity_id] = None
                pending += [name for _, name in read[activity_id].ways()]
        return [*order, *(activity_id for activity_id in read if activity_id not in order)]
