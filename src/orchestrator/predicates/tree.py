"""The predicate tree: a question about one subject. Nodes carry no behaviour; each meaning is a function of its own.

`parse.py` makes trees from JSON, `check.py` says what a tree names that is not there, `evaluate.py` is what they mean
(the reference), `explain.py` shows why, `flip.py` says when time alone could change the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any


class Operator(Enum):
    """Operators on attributes, by the name of their first form. Other spellings (`eq`, `gt`, …) parse to the same."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    EXISTS = "exists"
    NOT_EXISTS = "not_exists"
    GREATER_THAN = "greater_than"
    GREATER_OR_EQUAL = "gte"
    LESS_THAN = "less_than"
    LESS_OR_EQUAL = "lte"
    IN = "in"
    CONTAINS = "contains"
    NOT_CONTAINS = "not_contains"
    WITHIN = "within"
    NOT_WITHIN = "not_within"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ever:
    """All of a subject's history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """(as_of - duration, as_of], exact to the microsecond. `last_n_days` is n times 24 hours."""

    duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """[time, as_of]."""

    time: datetime


Window = Ever | Last | Since


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A question about the properties of one event. Its text is the canonical JSON: equal texts, equal questions."""

    text: str
    predicate: Predicate = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which of a subject's events count: those of one name (None: of every name), and of them those `where` picks."""

    name: str | None
    where: Where | None = None


#: Every event there is.
ANY_EVENT = Source(name=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFired:
    """At least `at_least` such events in the window; `negated` is exactly the opposite (`event_not_fired`).

    `any_event` is one with `ANY_EVENT` as its source.
    """

    source: Source
    window: Window
    at_least: int
    negated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A test of one field.

    `path` is the field path split at unescaped dots. A first part `$entry` reads the triggering event, `$steps` the
    answer of a step's webhook, `$subject` what is known of every subject (`builtin.py`).
    `value` is a JSON value; an aware datetime for order among instants; a tuple of JSON values for IN from a list, a
    tuple of texts (`texts`) for IN from the comma-separated form; a timedelta for WITHIN; None for EXISTS.
    """

    path: tuple[str, ...]
    operator: Operator
    value: Any
    texts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InCohort:
    """Membership in a segment: in its list, or, where `rules` have been put in (`cohorts.py`), whether they hold."""

    cohort_id: str
    rules: Predicate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Everyone:
    """TRUE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllOf:
    clauses: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    clauses: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    clause: Predicate


Leaf = EventFired | Attribute | InCohort | Everyone
Predicate = Leaf | AllOf | AnyOf | Not


def leaves(predicate: Predicate) -> Iterator[Leaf]:
    """Every leaf that is asked, in the order they were written; behind a cohort, those of its rules."""
    match predicate:
        case AllOf(clauses=clauses) | AnyOf(clauses=clauses):
            for clause in clauses:
                yield from leaves(clause)
        case Not(clause=clause):
            yield from leaves(clause)
        case InCohort(rules=rules) if rules is not None:
            yield predicate
            yield from leaves(rules)
        case _:
            yield predicate
