"""One random journey in one random world: what the core does there, held against the oracle after every move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from orchestrator.domain import journey_form
from orchestrator.domain.conditions import ANY_EVENT, ATTRIBUTES, event_topic, segment_topic
from orchestrator.domain.execution import Run
from orchestrator.domain.journey import Definition, JourneyVersion, Pinned
from tests.core import journeys
from tests.core.driver import Application, Workflow
from tests.core.oracle import Oracle
from tests.core.world import GOAL_EVENT, ROUTES, Entered, Event, World

TICK = timedelta(microseconds=1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

#: Some days before clocks are changed, and where; the turn of a year; a leap day's eve.
STARTS: list[tuple[datetime, str | None]] = [
    (datetime(2026, 3, 6, 11, 40, 7, tzinfo=UTC), "America/New_York"),
    (datetime(2026, 3, 27, 22, 15, tzinfo=UTC), "Europe/Berlin"),
    (datetime(2026, 10, 23, 9, 0, 0, 1, tzinfo=UTC), "Europe/Berlin"),
    (datetime(2026, 10, 30, 0, 30, tzinfo=UTC), "America/New_York"),
    (datetime(2026, 4, 2, 14, 59, 59, 999_999, tzinfo=UTC), "Australia/Lord_Howe"),
    (datetime(2026, 10, 1, 12, 0, tzinfo=UTC), "Australia/Lord_Howe"),
    (datetime(2026, 12, 30, 18, 0, tzinfo=UTC), None),
    (datetime(2028, 2, 27, 6, 0, tzinfo=UTC), None),
]
PINNED = {
    name: Pinned(content_revision=1, channel=channel, category=category) for name, (channel, category) in ROUTES.items()
}


class Difference(AssertionError):
    """Core and oracle do not agree."""


@dataclass(frozen=True, slots=True)
class _Move:
    name: str
    weight: int
    make: Callable[[Walk], None]


class Walk:
    """A world, a journey, and one execution after the other of the same subject in it."""

    def __init__(self, seed: int, tally: Counter[str]) -> None:
        self.seed = seed
        self.tally = tally
        self.random = Random(seed)
        start, zone = self.random.choice(STARTS)
        self.now = start + self.random.choice([timedelta(0), 5 * HOUR, 31 * MINUTE])
        self.zones = [zone] * 2 * len(journeys.ZONES) + journeys.ZONES if zone is not None else journeys.ZONES
        times = [_written(self.now + hours * HOUR) for hours in (-30, 7, 33, 60)]
        self.document = journeys.Author(self.random, times).journey()
        definition, faults = journey_form.parse(self.document)
        assert definition is not None, faults
        self.definition: Definition = definition
        self.world = World(
            created_at=self.now - self.random.choice([MINUTE, 5 * HOUR, 20 * DAY]),
            project_zone=self.random.choice(self.zones),
            lists={name: self.random.random() < 0.3 for name in journeys.LISTS},
        )
        self.entries = 0
        self.linger = 0
        for _ in range(self.random.randint(0, 6)):
            self.random.choice([_attribute, _attribute, _stamp, _due, _zone, _event])(self)()
        self.enter()

    def enter(self) -> None:
        """Somebody comes in, anew."""
        self.entries += 1
        self.world.closed = None
        self.world.changes += 1
        entered = Entered(
            journey_id=f"j{self.seed % 7}",
            subject_id=f"u{self.random.randrange(1000)}",
            key=self.random.choice(journeys.KEYS),
            triggered_at=self.now - self.random.choice([timedelta(0), TICK, MINUTE, 2 * HOUR]),
            properties={"amount": self.random.choice([5, 50, 500])},
            started_at=self.now,
        )
        version = JourneyVersion(journey_id=entered.journey_id, version=1, definition=self.definition, pinned=PINNED)
        self.oracle = Oracle(self.document, self.world, entered)
        self.app = Application(version, self.world, entered)
        lose = self.random.choice([0, 0, 0.2, 0.5])
        self.workflow = Workflow(self.app, self.random, lose, self.oracle.tried)
        self.workflow.go_on()
        self.linger = self.random.randint(0, 4 if self.app.ended is None else 1)

    def go(self, moves: int) -> None:
        self.compare("enter")
        for number in range(moves):
            if self.app.ended is not None:
                if self.linger == 0:
                    self.count()
                    self.enter()
                    self.compare(f"{number} enter")
                self.linger -= 1
            flying = self.workflow.flight is not None and self.random.random() < 0.6
            move = self.random.choices(LANDINGS if flying else MOVES, _LANDINGS if flying else _WEIGHTS)[0]
            move.make(self)
            self.tally[f"move: {move.name}"] += 1
            self.compare(f"{number} {move.name}")
        self.count()

    # Moves.

    def pass_time(self, to: datetime, *, inclusive: bool = True) -> None:
        """Both go from one timer of the workflow to the next, so that the oracle is told when sends are taken up."""
        self.workflow.flush()
        while (wakes := self.workflow.wakes_at) is not None and wakes < to and self.app.ended is None:
            self.oracle.pass_time(wakes)
            self.workflow.pass_time(wakes)
        self.oracle.pass_time(to, inclusive=inclusive)
        self.workflow.pass_time(to, inclusive=inclusive)
        self.now = to

    def happen(self, change: Callable[[], set[str]]) -> None:
        """The world changes, and the inbox tells whoever awaits it."""
        topics: set[str] = set()

        def happen() -> None:
            topics.update(change())
            self.world.changes += 1

        self.oracle.change(happen)
        if "closed" in topics or self.app.awaits & topics or ("mended" in topics and self.app.parked):
            self.workflow.poke()
            self.workflow.flush()
        else:
            self.workflow.go_on()

    def due_with(self, change: Callable[[], set[str]]) -> None:
        """Just when it would wake by itself, something happens."""
        wakes = self.workflow.wakes_at
        if wakes is not None and self.now < wakes <= self.now + 3 * DAY:
            self.pass_time(wakes, inclusive=False)
        self.happen(change)
        self.oracle.look_at_the_clock()
        self.workflow.flush()
        self.workflow.go_on()
        self.workflow.flush()

    # Comparison.

    def compare(self, move: str) -> None:
        for what, is_, should_be in self.both():
            if is_ != should_be:
                raise Difference(
                    f"seed {self.seed}, entry {self.entries}, move {move}, {self.now}: {what}\n"
                    f"core:   {is_}\noracle: {should_be}\n{self.document}\n{self.world}"
                )

    def both(self) -> list[tuple[str, Any, Any]]:
        """(what, what the core says, what the oracle says)."""
        app, oracle = self.app, self.oracle
        visits = [(v.step_id, v.step_kind, v.result.value, v.reason, v.entered_at, v.left_at) for v in app.visits]
        return [
            ("visits", visits, oracle.visits),
            ("outcome", app.ended, oracle.ended),
            ("position", (app.position.step_id, app.position.since), oracle.standing),
            ("sends", [(row.step_id, row.begun_at) for row in app.sends.values()], oracle.begun),
            ("parked", app.parked is not None and app.ended is None and not oracle.sending, oracle.parked),
        ]

    # Counting.

    def count(self) -> None:
        oracle, tally = self.oracle, self.tally
        steps = {step["id"]: step for step in self.document["steps"]}
        for step_id, kind, result, reason, _, _ in oracle.visits:
            tally[f"step: {_kind(steps[step_id], kind)}"] += 1
            match kind:
                case "send":
                    group = "gate" if result == "skipped" else "way"
                    tally[f"{group}: send {result} {reason or ''}".rstrip()] += 1
                case "wait_for" | "branch":
                    tally[f"way: {kind} {'arm' if reason not in ('came', 'timeout', 'otherwise') else reason}"] += 1
                case "wait" if reason:
                    tally[f"way: wait {reason}"] += 1
        for note in oracle.notes:
            tally[f"{'gate' if note.startswith('withdrawn') else 'woken'}: {note}"] += 1
        if oracle.ended is not None:
            outcome, reason, _ = oracle.ended
            gates = ("opted_out", "suppressed")
            by = reason if outcome == "canceled" or reason in gates else ""
            if outcome == "exited" and not by:
                by = "rule"
            tally[f"end: {outcome} {by}".rstrip()] += 1
        else:
            tally["end: still under way"] += 1
        tally["asked: answers lost"] += self.workflow.lost
        tally["asked: decisions"] += self.app.asked


def _kind(step: Any, kind: str) -> str:
    if kind == "wait":
        (way,) = step["wait"].keys()
        return f"wait {way}{' weekdays' if 'weekdays' in step['wait'].get('timeOfDay', {}) else ''}"
    if kind == "wait_for":
        return f"wait_for {next(way for way in ('when', 'event', 'changed') if way in step['waitFor'])}"
    return kind


def _written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


# What can happen in the world: each throws the dice, and returns what then makes the change and names its topics.

_Change = Callable[[], set[str]]


def _attribute(walk: Walk) -> _Change:
    random = walk.random
    name, value = random.choice(
        [
            *(("tier", value) for value in ("free", "pro", "pro", None)),
            *(("score", value) for value in (1, 3, 3.0, 5, 5.0, True, "5")),
            *(("plan", value) for value in ({"level": 1}, {"level": None}, {"level": 1.0}, {}, "none")),
            ("zip", random.randrange(3)),
        ]
    )

    def change() -> set[str]:
        walk.world.attributes[name] = value
        return {ATTRIBUTES}

    return change


def _stamp(walk: Walk) -> _Change:
    """An instant near now is written down."""
    offset = walk.random.choice([timedelta(0), -HOUR, -MINUTE * 50, 20 * MINUTE, 5 * HOUR, -TICK, -2 * DAY, 3 * DAY])

    def change() -> set[str]:
        walk.world.attributes["seen"] = _written(walk.now + offset)
        return {ATTRIBUTES}

    return change


def _due(walk: Walk) -> _Change:
    """Something that may be a date, and mostly is one that comes soon."""
    random = walk.random
    soon = walk.now + random.choice([-2, 0, 1, 2, 2, 3, 9]) * DAY
    value: Any = random.choice(
        [
            soon.date().isoformat(), soon.date().isoformat(), soon.date().isoformat(), _written(soon),
            soon.replace(tzinfo=None, microsecond=0).isoformat() + "-05:30", soon.replace(tzinfo=None).isoformat(),
            "2026-02-30", "soon", 5, None, {"a": 1},
        ]
    )  # fmt: skip
    name = random.choice(["due", "due", "plan"])

    def change() -> set[str]:
        walk.world.attributes[name] = {"renews": value, "level": 2} if name == "plan" else value
        return {ATTRIBUTES}

    return change


def _remove(walk: Walk) -> _Change:
    name = walk.random.choice(["tier", "tier", "score", "plan", "seen", "due"])

    def change() -> set[str]:
        walk.world.attributes.pop(name, None)
        return {ATTRIBUTES}

    return change


def _zone(walk: Walk) -> _Change:
    zone = walk.random.choice([*walk.zones, None])

    def change() -> set[str]:
        walk.world.zone = zone
        return {ATTRIBUTES}

    return change


def _event(walk: Walk, ages: tuple[timedelta, ...] = (timedelta(0),)) -> _Change:
    random = walk.random
    name = random.choice(["buy", "buy", "view", "view", "view", GOAL_EVENT])
    order = random.choice(journeys.ORDERS)
    properties = {"amount": random.choice([1, 5, 100, "100"]), "order": order, "cart": {"order": order}}
    age = random.choice(ages)

    def change() -> set[str]:
        walk.world.events.append(Event(name=name, occurred=walk.now - age, properties=properties))
        return {ANY_EVENT, event_topic(name)}

    return change


def _late_event(walk: Walk) -> _Change:
    return _event(walk, (TICK, MINUTE, HOUR, 5 * HOUR, DAY))


def _member(walk: Walk, on_it: bool) -> _Change:
    def change() -> set[str]:
        there = [name for name, on_list in walk.world.lists.items() if on_list is not on_it]
        if not there:
            return set()
        name = walk.random.choice(there)
        walk.world.lists[name] = on_it
        return {segment_topic(name)}

    return change


def _joins(walk: Walk) -> _Change:
    return _member(walk, True)


def _segment_deleted(walk: Walk) -> _Change:
    def change() -> set[str]:
        if not walk.world.lists:
            return set()
        name = walk.random.choice(list(walk.world.lists))
        del walk.world.lists[name]
        return {segment_topic(name)}

    return change


def _segment_restored(walk: Walk) -> _Change:
    def change() -> set[str]:
        gone = [name for name in journeys.LISTS if name not in walk.world.lists]
        topics = {segment_topic(name) for name in gone}
        walk.world.lists |= {name: walk.random.random() < 0.3 for name in gone}
        return topics | {"mended"} if gone else set()

    return change


def _preferences(walk: Walk, how: str) -> _Change:
    world, random = walk.world, walk.random
    pair = random.choice([("email", "marketing"), ("push", "*"), ("*", "news"), ("*", "*")])
    channel = random.choice(["email", "push", "*"])

    def change() -> set[str]:
        match how:
            case "opt out":
                world.opted_out.add(pair)
            case "opt in":
                world.opted_out.clear()
            case "suppress":
                world.suppressed.add(channel)
            case _:
                world.suppressed.clear()
        return set()

    return change


def _close(walk: Walk, why: str) -> _Change:
    def change() -> set[str]:
        if walk.app.ended is None:
            walk.world.closed = why
        return {"closed"}

    return change


# What else can happen.


def _time(*spans: timedelta) -> Callable[[Walk], None]:
    return lambda walk: walk.pass_time(walk.now + walk.random.choice(spans))


def _wake(walk: Walk) -> None:
    wakes = walk.workflow.wakes_at
    if wakes is not None and walk.now < wakes <= walk.now + 4 * DAY:
        walk.pass_time(wakes + walk.random.choice([timedelta(0), timedelta(0), -TICK, TICK]))


def _poke(walk: Walk) -> None:
    walk.workflow.poke()


def _pokes(walk: Walk) -> None:
    for _ in range(walk.random.randint(2, 5)):
        walk.workflow.poke()


def _old_question(walk: Walk) -> None:
    """A question that was answered long ago comes again, from an activity that was given up on."""
    seq = walk.app.seq - walk.random.randint(1, 3)
    if seq >= 0:
        answer = walk.app.advance(seq) if walk.random.random() < 0.5 else walk.app.reserve(seq)
        assert answer is walk.app.stored


def _same_question(walk: Walk) -> None:
    """Somebody else asks what the workflow is about to ask."""
    asked = walk.app.seq
    if not isinstance(walk.workflow.answer.effect, Run):
        answer = walk.app.advance(asked)
        assert walk.app.seq == asked, answer


def _land(*results: str) -> Callable[[Walk], None]:
    def land(walk: Walk) -> None:
        flight = walk.workflow.flight
        if flight is not None:
            result = walk.random.choice(results)
            walk.oracle.answered(flight.send, flight.number, result)
            walk.workflow.land(result)

    return land


def _late_answer(walk: Walk) -> None:
    if walk.workflow.dead:
        flight = walk.workflow.dead.pop(walk.random.randrange(len(walk.workflow.dead)))
        result = walk.random.choice(["sent", "failed", "unknown"])
        walk.oracle.answered(flight.send, flight.number, result)
        walk.workflow.late(flight, result)
        walk.tally["asked: tries answered late"] += 1


def _world(change: Callable[[Walk], _Change]) -> Callable[[Walk], None]:
    return lambda walk: walk.happen(change(walk))


def _at_wake(walk: Walk) -> None:
    change = walk.random.choice([_event, _event, _attribute, _remove, _stamp, _joins])
    walk.due_with(change(walk))


MOVES = [
    _Move("seconds pass", 6, _time(timedelta(seconds=1), timedelta(seconds=7), 3 * MINUTE)),
    _Move("hours pass", 8, _time(15 * MINUTE, HOUR, 90 * MINUTE, 6 * HOUR)),
    _Move("days pass", 2, _time(DAY, 2 * DAY)),
    _Move("a timer fires, or nearly", 16, _wake),
    _Move("at a timer something happens", 6, _at_wake),
    _Move("event", 12, _world(_event)),
    _Move("late event", 4, _world(_late_event)),
    _Move("attribute", 10, _world(_attribute)),
    _Move("instant in an attribute", 4, _world(_stamp)),
    _Move("date in an attribute", 5, _world(_due)),
    _Move("attribute removed", 4, _world(_remove)),
    _Move("time zone", 3, _world(_zone)),
    _Move("on a list", 4, _world(lambda walk: _member(walk, True))),
    _Move("off a list", 5, _world(lambda walk: _member(walk, False))),
    _Move("segment deleted", 2, _world(_segment_deleted)),
    _Move("segment restored", 5, _world(_segment_restored)),
    _Move("opt-out", 2, _world(lambda walk: _preferences(walk, "opt out"))),
    _Move("opt-in", 4, _world(lambda walk: _preferences(walk, "opt in"))),
    _Move("suppression", 2, _world(lambda walk: _preferences(walk, "suppress"))),
    _Move("suppression lifted", 4, _world(lambda walk: _preferences(walk, "lift"))),
    _Move("journey archived", 1, _world(lambda walk: _close(walk, "journey_archived"))),
    _Move("journey deleted", 1, _world(lambda walk: _close(walk, "journey_deleted"))),
    _Move("poke without reason", 4, _poke),
    _Move("pokes without reason", 2, _pokes),
    _Move("old question", 4, _old_question),
    _Move("same question", 4, _same_question),
    _Move("late answer", 3, _late_answer),
]
LANDINGS = [
    _Move("sent", 8, _land("sent")),
    _Move("refused", 2, _land("failed")),
    _Move("nobody knows", 2, _land("unknown")),
    _Move("try released", 4, _land("released")),
    _Move("try dies", 4, _land("crashed")),
]
_WEIGHTS = [move.weight for move in MOVES]
_LANDINGS = [move.weight for move in LANDINGS]
