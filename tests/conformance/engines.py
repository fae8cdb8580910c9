"""The two engines side by side: where they differ, and what they have been compared on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from asyncpg import Connection, Record

from orchestrator.predicates.builtin import SUBJECT
from orchestrator.predicates.evaluate import POSITIVE, evaluate, stored_value
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.flip import next_flip
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.tree import (
    Attribute,
    EventFired,
    Ever,
    InCohort,
    Last,
    Leaf,
    Operator,
    Predicate,
    Since,
)
from orchestrator.predicates.values import type_name
from tests.conformance.dice import TICK, Throw
from tests.conformance.tables import Answer, write_worlds

#: Further away than any window reaches.
_FOR_EVER = timedelta(days=80_000)


def reference(throw: Throw) -> Iterator[Answer]:
    """What Python's evaluator says about each subject."""
    for facts in throw.facts:
        yield _answer(throw.questions, facts, throw.as_of)


def _answer(questions: Mapping[int, Predicate], facts: Facts, as_of: datetime) -> Answer:
    flips = [flip for question in questions.values() if (flip := next_flip(question, facts, as_of)) is not None]
    return Answer(_holding(questions, facts, as_of), min(flips, default=None))


def _holding(questions: Mapping[int, Predicate], facts: Facts, as_of: datetime) -> frozenset[int]:
    return frozenset(number for number, question in questions.items() if evaluate(question, facts, as_of))


def differences(throw: Throw, by_reference: Iterable[Answer], by_tables: Mapping[int, Answer]) -> Iterator[str]:
    """Where the database says something else, or an answer changes before either engine expects it to."""
    if by_tables.keys() != set(range(len(throw.worlds))):
        yield f"the database answers about {sorted(by_tables)}"
        return
    for subject, said in enumerate(by_reference):
        told = by_tables[subject]
        for number in sorted(said.holds ^ told.holds):
            yield f"{throw.documents.get(number)} is {number in said.holds} of {throw.worlds[subject]}"
        if told.due is not None and told.due <= throw.as_of:
            yield f"due {told.due} has passed"
        if said.due is not None and (told.due is None or told.due > said.due):
            yield f"due {told.due} is later than {said.due} for {throw.worlds[subject]}"
        # Each engine's own date, so that one that is wrong in the reference is found too.
        for due in {said.due, told.due}:
            before = due - TICK if due is not None else throw.as_of + _FOR_EVER
            if _holding(throw.questions, throw.facts[subject], before) != said.holds:
                yield f"an answer changes before {due} for {throw.worlds[subject]}"


async def first_difference(conn: Connection[Record], throw: Throw) -> str | None:
    """Puts the subjects into the tables, whose owner `conn` is, and asks both engines about them."""
    tables = await write_worlds(conn, throw.worlds, throw.questions.values())
    told = await tables.ask(throw.questions, throw.as_of)
    return next(differences(throw, reference(throw), told), None)


#: What a leaf finds. Instants are told apart by how far they are from where its answer changes.
EDGES = ("-1 µs", "at", "+1 µs", "elsewhere")
COLUMNS = ("missing", "null", "boolean", "number", "string", "array", "object", *EDGES)

Cell = tuple[str, str]


class Tally:
    """Pairs of a question and a subject on which both engines were asked; those of one leaf by what it found."""

    def __init__(self) -> None:
        self.pairs = 0
        self.cells: Counter[Cell] = Counter()

    def add(self, throw: Throw) -> None:
        self.pairs += len(throw.worlds) * len(throw.questions)
        for question in throw.questions.values():
            if isinstance(question, EventFired | Attribute) or (isinstance(question, InCohort) and not question.rules):
                row = _row(question)
                for facts in throw.facts:
                    self.cells[row, _column(question, facts, throw.as_of)] += 1

    def fewest(self) -> tuple[int, Cell]:
        """The least of the cells that there can be."""
        return min((self.cells[cell], cell) for cell in possible_cells())

    def __str__(self) -> str:
        rows = {row: [str(self.cells[row, column] or "") for column in COLUMNS] for row, _ in sorted(self.cells)}
        width = max(map(len, rows))
        head = " " * width + "".join(f"{column:>11}" for column in COLUMNS)
        lines = [f"{row:<{width}}" + "".join(f"{count:>11}" for count in counts) for row, counts in rows.items()]
        return "\n".join([f"{self.pairs} pairs", head, *lines])


_PLAIN = ("exists", "not_exists", "equals", "not_equals", "in", "contains", "not_contains")
_ORDERS = {Operator.GREATER_THAN, Operator.GREATER_OR_EQUAL, Operator.LESS_THAN, Operator.LESS_OR_EQUAL}
_TYPES = COLUMNS[: -len(EDGES)]


def possible_cells() -> Iterator[Cell]:
    for operator in (*_PLAIN, *(f"{order.value} number" for order in _ORDERS)):
        yield from ((operator, column) for column in (*_TYPES, "elsewhere"))
    for operator in (*(f"{order.value} instant" for order in _ORDERS), "within", "not_within"):
        yield from ((operator, column) for column in COLUMNS)
    for row in ("order", "within", "not_within"):
        yield from ((f"{row} $subject.created_at", column) for column in EDGES)
        yield from ((f"{row} $subject.last_event_at", column) for column in ("missing", *EDGES))
    for kind in ("event_fired", "event_not_fired", "event_fired where", "event_not_fired where"):
        for window in ("last 1", "last n", "since 1", "since n", "ever n"):
            yield from ((f"{kind} {window}", column) for column in ("missing", *EDGES))
        yield from ((f"{kind} ever 1", column) for column in ("missing", *EDGES[1:]))
    for window in ("last 1", "since 1"):
        yield from ((f"any_event {window}", column) for column in ("missing", *EDGES))
    yield from (("in_cohort", column) for column in ("missing", "elsewhere"))


def _row(leaf: Leaf) -> str:
    match leaf:
        case EventFired(source=source, window=window, at_least=at_least, negated=negated):
            kind = "any_event" if source.name is None else "event_not_fired" if negated else "event_fired"
            where = " where" if source.where is not None else ""
            return f"{kind}{where} {type(window).__name__.lower()} {'1' if at_least == 1 else 'n'}"
        case Attribute(path=(first, name), operator=operator) if first == SUBJECT and name != "time_zone":
            return f"{'order' if operator in _ORDERS else operator.value} {SUBJECT}.{name}"
        case Attribute(operator=operator, value=value) if operator in _ORDERS:
            return f"{operator.value} {'instant' if isinstance(value, datetime) else 'number'}"
        case Attribute(operator=operator):
            return operator.value
    return "in_cohort"


def _column(leaf: Leaf, facts: Facts, as_of: datetime) -> str:
    match leaf:
        case EventFired():
            return _column_of_events(leaf, facts, as_of)
        case Attribute():
            stored = stored_value(leaf, facts, absent=...)
            if stored is ...:
                return "missing"
            instant = parse_instant(stored) if isinstance(stored, str) else None
            return type_name(stored) if instant is None else _beside(instant, _edges(leaf, as_of))
        case InCohort(cohort_id=cohort_id):
            return "elsewhere" if cohort_id in facts.cohorts else "missing"
    raise ValueError(f"{leaf} finds nothing")


def _column_of_events(leaf: EventFired, facts: Facts, as_of: datetime) -> str:
    events = facts.events.get(leaf.source)
    if events is None:
        return "missing"
    if isinstance(leaf.window, Ever):
        return dict(zip((-1, 0, 1), EDGES, strict=False)).get(events.total - leaf.at_least, "elsewhere")
    nth = events.nth_last(leaf.at_least)
    match leaf.window:
        case Last(duration=duration):
            edge = as_of - duration
        case Since(time=time):
            edge = time
    return "missing" if nth is None else _beside(nth, [edge])


def _edges(leaf: Attribute, as_of: datetime) -> list[datetime]:
    """Where the leaf's answer changes, on the line of instants."""
    if POSITIVE.get(leaf.operator, leaf.operator) is Operator.WITHIN:
        return [as_of - leaf.value, as_of]
    return [leaf.value] if isinstance(leaf.value, datetime) else []


def _beside(instant: datetime, edges: Sequence[datetime]) -> str:
    for edge in edges:
        if abs(instant - edge) <= TICK:
            return EDGES[1 + (instant - edge) // TICK]
    return "elsewhere"
