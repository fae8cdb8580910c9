"""Worlds and questions by a seed: many at once, faster than Hypothesis makes them, and all of them close to an edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from random import Random
from typing import Any, TypeVar

from orchestrator.predicates.cohorts import Cohorts
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import AllOf, Predicate
from tests.conformance.worlds import Happened, World, facts_for

Document = dict[str, Any]
_Choice = TypeVar("_Choice")

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

#: Noon; days on which New York and Berlin change their clocks; midnight and around it; after a leap day.
NOWS = [
    datetime(2026, 3, 10, 12, tzinfo=UTC),
    datetime(2026, 3, 9, 4, 30, tzinfo=UTC),
    datetime(2026, 11, 2, 4, 30, tzinfo=UTC),
    datetime(2026, 3, 30, 0, 30, tzinfo=UTC),
    datetime(2026, 3, 10, tzinfo=UTC),
    datetime(2026, 3, 9, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 3, 1, 0, 0, 0, 1, tzinfo=UTC),
]
SPANS = {"1h": HOUR, "24h": DAY, "2d": 2 * DAY, "1w": 7 * DAY}

NUMBERS = [0, 1, 5, 5.0, 5.000000000000001, -1, -0.0, 0.1, 0.5, 2**53, 2**53 + 1, 2**60, 2.0**60, 1e21, 5e-324]
TEXTS = [
    "",
    "a",
    "ab",
    "A",
    "é",
    "e\u0301",
    "😀",
    "ß",
    "5",
    "5.0",
    "0.5",
    "true",
    "%",
    "a_b",
    'it\'s "$1" \\',
    " a",
    "2026-03-10",
]
ARRAYS: list[Any] = [[], [1], [True], ["a"], ["ab", 5.0], [[1]], [None], [{"a": 1}], [{"a": 1, "b": 2}], ["é", "5"]]
OBJECTS: list[Any] = [{}, {"a": 1}, {"a": None}, {"a": 1.0, "b": []}, {"x": 5}, {"0": "a"}, {"x": {"x": "ab"}}]
#: Values that one might take for each other.
ALIKE: list[Any] = [
    "a",
    "A",
    "5",
    5,
    2**53 + 1,
    2**60,
    2.0**60,
    True,
    1,
    0.5,
    "%",
    "a_b",
    [1],
    ["a"],
    {"a": 1},
    {},
    "true",
]
#: What may be in texts and in arrays.
CONTAINED: list[Any] = ["a", "A", "é", "5", "", "%", 5, 1, True, [1], {"a": 1}]
#: Kept apart from its row by the database, and found all the same.
LONG = {"padding": "".join(chr(0x4E00 + place * 7919 % 20_000) for place in range(4_000))}

PATHS = ["x", "x", "x", "y", "o.x", "o.o.x", "a\\.b", "x.0", "x.a", "0", "o", "none"]
TIMED_PATHS = ["t", "t", "a\\.t", "o.t", "x"]
NAMES = ["buy"] * 5 + ["view"] * 4 + ["never"]
LISTS = ["vip", "trial"]
RULES = ["active", "lapsed"]
AMOUNTS = [5, 5, 10, "10"]
TIME_ZONES = [None, "Europe/Berlin", "America/New_York"]

PLAIN = ["equals", "not_equals", "exists", "not_exists", "in", "contains", "not_contains"]
ORDERS = ["greater_than", "gte", "less_than", "lte"]
TIMED = ["within", "not_within"]

#: Every kind of leaf, as arguments of what makes it.
LEAVES: list[tuple[str, ...]] = [
    *(("attribute", operator) for operator in (*PLAIN * 4, *ORDERS * 2, *TIMED)),
    *(("instant", operator) for operator in ORDERS),
    *product(["subject"], ["created_at", "last_event_at"], ["exists", "not_exists", *ORDERS, *TIMED]),
    *product(["subject"], ["time_zone"], PLAIN),
    ("in_cohort",),
    *product(["any_event"], ["ever", "last", "since"]),
    *product(["event_fired", "event_not_fired"], ["", "where"], ["ever", "last", "since"], ["1", "n", "n"]),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Throw:
    """Questions about subjects at one instant. `documents` are the questions as they were written."""

    as_of: datetime
    worlds: list[World]
    facts: list[Facts]
    documents: dict[int, Document]
    questions: dict[int, Predicate]


def throw(seed: int, *, subjects: int, leaves: int, trees: int) -> Throw:
    """`leaves` questions are one leaf each, and of every kind there are some; `trees` are anything."""
    dice = _Dice(seed)
    rules = {name: _parsed(dice.tree(2, RULES[:place])) for place, name in enumerate(RULES)}
    cohorts = Cohorts(rules)
    asked = [dice.leaf(place) for place in range(leaves)] + [dice.tree(3, RULES) for _ in range(trees)]
    # Numbers with gaps and in no order, as segments have them.
    numbers = dice.random.sample(range(1, 10 * len(asked)), len(asked))
    documents = dict(zip(numbers, asked, strict=True))
    questions = {number: cohorts.inline(_parsed(document)) for number, document in documents.items()}
    everything = AllOf(clauses=tuple(questions.values()))
    worlds = [dice.world() for _ in range(subjects)]
    facts = [facts_for(everything, world) for world in worlds]
    return Throw(as_of=dice.as_of, worlds=worlds, facts=facts, documents=documents, questions=questions)


def _parsed(document: Document) -> Predicate:
    predicate, faults = parse(document)
    assert predicate is not None, (document, faults)
    return predicate


class _Dice:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.as_of = NOWS[seed % len(NOWS)]
        midnight = self.as_of.replace(hour=0, minute=0, second=0, microsecond=0)
        # Few at a time, so that many subjects have something beside the edge that a question has.
        self.spans = self.random.sample(list(SPANS), 2)
        times = [self.as_of - 3 * DAY - HOUR, midnight - 2 * DAY, self.as_of, self.as_of + HOUR]
        self.times = self.random.sample(times, 2)
        self.edges = [self.as_of, *(self.as_of - SPANS[span] for span in self.spans), *self.times]

    def world(self) -> World:
        attributes = {name: self.value() for name in ("x", "y", "a.b", "0") if self.chance(0.9)}
        for name in ("t", "a.t"):
            if self.chance(0.9):
                attributes[name] = self.time() if self.chance(0.8) else self.value()
        if self.chance(0.9):
            inner = {"x": self.value(), "t": write(self.instant(), self.random), "o": {"x": self.value()}}
            attributes["o"] = inner if self.chance(0.8) else self.value()
        return World(
            attributes=attributes | LONG if self.chance(0.1) else attributes,
            events={name: self.events() for name in ("buy", "view") if self.chance(0.8)},
            cohorts=frozenset(name for name in LISTS if self.chance(0.5)),
            known_cohorts=frozenset(LISTS),
            created_at=self.instant(),
            time_zone=self.random.choice(TIME_ZONES),
        )

    def events(self) -> list[Happened]:
        """Some crowd at an edge, where the n-th decides; few are later."""
        edges = [self.as_of - SPANS[self.common(self.spans)], self.common(self.times)]
        edge = self.random.choice(edges) if self.chance(0.9) else self.as_of
        later = [
            self.as_of - self.random.random() * (self.as_of - edge) for _ in range(self.random.choice([0, 0, 1, 2]))
        ]
        crowd = [edge + self.random.choice([-1, 0, 1]) * TICK for _ in range(self.random.choice([0, 1, 1, 2, 3]))]
        if self.chance(0.2):  # so busy a day that only its events tell whether the n-th is behind the edge
            midnight = edge.replace(hour=0, minute=0, second=0, microsecond=0)
            crowd += [midnight + self.random.random() * DAY for _ in range(5)]
        others = [self.instant() for _ in range(self.random.choice([0, 0, 0, 1]))]
        earlier = [edge - self.random.random() * 5 * DAY for _ in range(self.random.choice([0, 0, 1, 2]))]
        return [Happened(at, {"amount": self.random.choice(AMOUNTS)}) for at in (*later, *crowd, *others, *earlier)]

    def instant(self) -> datetime:
        if self.chance(0.7):
            return self.beside(self.edge())
        return self.as_of - self.random.random() * 10 * DAY

    def beside(self, edge: datetime) -> datetime:
        if self.chance(0.8):
            return edge + self.random.choice([-1, -1, 0, 0, 1, 1, 2]) * TICK
        midnight = edge.replace(hour=0, minute=0, second=0, microsecond=0)
        return self.random.choice([midnight, midnight + DAY - TICK, midnight + DAY, midnight + 12 * HOUR])

    def span(self) -> str | Document:
        span = self.random.choice(self.spans)
        hours = SPANS[span] // HOUR
        written: list[str | Document] = [span, span, {"hours": hours}, {"minutes": 60 * hours}]
        return self.random.choice(written)

    def edge(self) -> datetime:
        return self.random.choice(self.edges)

    def value(self) -> Any:
        """Of each type as often."""
        kinds: list[list[Any]] = [[None], [True, False], NUMBERS, TEXTS, ARRAYS, OBJECTS]
        kind = self.random.randrange(len(kinds) + 1)
        if kind == len(kinds):
            return write(self.instant(), self.random)
        alike = [value for value in ALIKE if type(value) is type(kinds[kind][0])]
        return self.random.choice(alike if alike and self.chance(0.6) else kinds[kind])

    def time(self) -> str:
        """Mostly an instant."""
        if self.chance(0.1):
            return self.instant().date().isoformat()
        return write(self.instant(), self.random)

    def operand(self) -> Any:
        value = self.random.choice(ALIKE) if self.chance(0.75) else self.value()
        return value if value is not None else self.operand()

    def leaf(self, place: int) -> Document:
        """Every kind in turn."""
        kind, *more = LEAVES[place % len(LEAVES)]
        match kind:
            case "attribute":
                return self.attribute(*more)
            case "instant":
                at = write(self.beside(self.edge()), self.random)
                path = self.random.choice(TIMED_PATHS)
                return {"kind": "attribute", "fieldPath": path, "operator": more[0], "value": at}
            case "subject":
                return self.built_in(*more)
            case "in_cohort":
                return {"kind": "in_cohort", "cohortId": self.random.choice(LISTS + RULES)}
            case "any_event":
                return {"kind": "any_event", "window": self.window(*more)}
        return self.event(kind, *more)

    def attribute(self, operator: str) -> Document:
        paths = TIMED_PATHS if operator in TIMED else PATHS
        leaf: Document = {"kind": "attribute", "fieldPath": self.random.choice(paths), "operator": operator}
        match operator:
            case "exists" | "not_exists":
                return leaf
            case "within" | "not_within":
                return leaf | {"value": self.span()}
            case "in" if self.chance(0.5):
                texts = self.random.choices(["5", "5.0", " ab", "true", "0.5", "a", "", "1000000000000000000000"], k=3)
                return leaf | {"value": ",".join([*texts, "0"])}
            case "in":
                return leaf | {"value": [self.operand() for _ in range(self.random.choice([1, 2, 3, 12]))]}
            case "contains" | "not_contains" if self.chance(0.7):
                return leaf | {"value": self.random.choice(CONTAINED)}
            case _ if operator in ORDERS:
                return leaf | {"value": self.random.choice(NUMBERS)}
        return leaf | {"value": self.operand()}

    def built_in(self, name: str, operator: str) -> Document:
        leaf: Document = {"kind": "attribute", "fieldPath": f"$subject.{name}", "operator": operator}
        if "exists" in operator:
            return leaf
        if name == "time_zone":
            return leaf | {"value": self.random.choice(["Europe/Berlin", "Europe"])}
        if operator in ORDERS:
            return leaf | {"value": write(self.beside(self.edge()), self.random) if self.chance(0.9) else 5}
        return leaf | {"value": self.random.choice(self.spans)}

    def event(self, kind: str, where: str, window: str, at_least: str) -> Document:
        leaf: Document = {
            "kind": kind,
            "eventName": self.random.choice(NAMES),
            "window": self.window(window),
            "atLeast": 1 if at_least == "1" else self.random.choice([2, 2, 2, 3, 4]),
        }
        if where:
            amount = self.random.choice([5, 5, 5, 10])
            asked = {"kind": "attribute", "fieldPath": "amount", "operator": "gte", "value": amount}
            leaf["where"] = {"kind": "not", "clause": asked} if self.chance(0.2) else asked
        return leaf

    def window(self, kind: str) -> Document:
        if kind == "ever":
            return {"type": "ever"}
        if kind == "since":
            return {"type": "since", "time": write(self.common(self.times), self.random)}
        span = self.common(self.spans)
        if self.chance(0.3) and SPANS[span] >= DAY:
            return {"type": "last_n_days", "days": SPANS[span] // DAY}
        return {"type": "last", "duration": span}

    def tree(self, depth: int, rules: list[str]) -> Document:
        """`rules`: the segments with rules that it may name."""
        if depth == 0 or self.chance(0.2):
            if rules and self.chance(0.1):
                return {"kind": "in_cohort", "cohortId": self.random.choice(rules)}
            leaf = self.leaf(self.random.randrange(len(LEAVES)))
            return {"kind": "everyone"} if leaf.get("cohortId") in RULES else leaf
        if self.chance(0.25):
            return {"kind": "not", "clause": self.tree(depth - 1, rules)}
        clauses = [self.tree(depth - 1, rules) for _ in range(self.random.randint(1, 3))]
        return {"kind": self.random.choice(["and", "or"]), "clauses": clauses}

    def common(self, both: Sequence[_Choice]) -> _Choice:
        """The first of two, most of the time: so that questions and subjects meet."""
        return both[0] if self.chance(0.8) else both[1]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability


def write(instant: datetime, random: Random) -> str:
    """One of the ways to write it."""
    match random.randrange(4):
        case 0:
            return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case 1:
            return (instant + 2 * HOUR).strftime("%Y-%m-%dT%H:%M:%S.%f+02:00")
        case 2:
            return instant.strftime("%Y-%m-%dt%H:%M:%S.%f9-00:00")  # the seventh digit is cut
    return instant.isoformat().replace("+00:00", "Z")
