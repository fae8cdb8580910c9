"""What is true of a world at an instant, as the oracle reads it. Imports nothing of ours."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.core.oracle_json import DAY, Json, at_path, instant_of, same, segments_in, span_of, spelled
from tests.core.world import GOAL_EVENT, GOAL_HOURS, Entered, World


class Gone(Exception):
    """A predicate names a segment that was deleted."""


class Answers:
    """About one who entered, now."""

    def __init__(self, world: World, entered: Entered) -> None:
        self.world = world
        self.entered = entered
        self.now = entered.started_at
        self.answers: dict[str, Json] = {}

    def happened(self, asked: Json, later_than: datetime | None) -> bool:
        for event in self.world.events:
            if event.name != asked["eventName"] or event.occurred <= self.entered.triggered_at:
                continue
            if later_than is not None and event.occurred <= later_than:
                continue
            path = asked.get("entryKeyPath")
            if path and spelled(at_path(event.properties, path, None)) != self.entered.key:
                continue
            if "where" not in asked or self._true(asked["where"], event.properties):
                return True
        return False

    def goal_reached(self) -> bool:
        start = self.entered.triggered_at
        within = timedelta(hours=GOAL_HOURS)
        return any(e.name == GOAL_EVENT and start < e.occurred <= start + within for e in self.world.events)

    def holds(self, predicate: Json) -> bool:
        for name in segments_in(predicate):
            if name not in self.world.lists:
                raise Gone
        return self._true(predicate, self.world.attributes)

    def _true(self, p: Json, attributes: Json) -> bool:
        match p["kind"]:
            case "everyone":
                return True
            case "and":
                return all(self._true(clause, attributes) for clause in p["clauses"])
            case "or":
                return any(self._true(clause, attributes) for clause in p["clauses"])
            case "not":
                return not self._true(p["clause"], attributes)
            case "in_cohort":
                return self.world.lists[str(p["cohortId"])]
            case "event_fired":
                return self._count(p) >= int(p.get("atLeast", 1))
            case "event_not_fired":
                return self._count(p) < int(p.get("atLeast", 1))
            case "any_event":
                return self._count(p) >= 1
            case "attribute":
                return self._compares(p, self._field(p["fieldPath"], attributes))
        raise ValueError(p)

    def _count(self, p: Json) -> int:
        return sum(
            1
            for event in self.world.events
            if p["kind"] == "any_event" or event.name == p["eventName"]
            if self._in_window(event.occurred, p.get("window", {"type": "ever"}))
            if "where" not in p or self._true(p["where"], event.properties)
        )

    def _in_window(self, occurred: datetime, window: Json) -> bool:
        match window["type"]:
            case "ever":
                return True
            case "last":
                return self.now - span_of(window["duration"]) < occurred
            case "last_n_days":
                return self.now - int(window["days"]) * DAY < occurred
            case "since":
                time = instant_of(window["time"])
                assert time is not None
                return time <= self.now and time <= occurred
        raise ValueError(window)

    def _field(self, path: str, attributes: Json) -> Json:
        match path:
            case "$subject.time_zone":
                return self.world.zone
            case "$subject.created_at":
                return self.world.created_at.isoformat()
            case "$subject.last_event_at":
                return (
                    max((e.occurred for e in self.world.events), default=self.now).isoformat()
                    if (self.world.events)
                    else None
                )
        if path.startswith("$entry."):
            return at_path(self.entered.properties, path.removeprefix("$entry."), None)
        if path.startswith("$steps."):
            return at_path(self.answers, path.removeprefix("$steps."), None)
        return at_path(attributes, path, None)

    def _compares(self, p: Json, value: Json) -> bool:
        match p["operator"]:
            case "exists":
                return value is not None
            case "equals":
                return value is not None and same(value, p["value"])
            case "not_equals":
                return value is None or not same(value, p["value"])
            case "gte":
                return isinstance(value, int | float) and not isinstance(value, bool) and value >= float(p["value"])
            case "within" | "not_within":
                stamp = instant_of(value) if isinstance(value, str) else None
                within = stamp is not None and self.now - span_of(p["value"]) < stamp <= self.now
                return within is (p["operator"] == "within")
        raise ValueError(p)
