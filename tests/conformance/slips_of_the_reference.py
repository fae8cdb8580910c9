"""Errors one could make in the reference: for each operator and window, and where Python is not JSON."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.predicates import evaluate, flip, values
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.tree import (
    AllOf,
    AnyOf,
    Attribute,
    EventFired,
    InCohort,
    Last,
    Leaf,
    Not,
    Operator,
    Predicate,
    Since,
    Source,
)
from tests.conformance.dice import TICK
from tests.conformance.slips import Slip, swapped


def _operator(what: str, meant: Operator, otherwise: Callable[[Any, Any, datetime], bool]) -> Slip:
    """It means something else of values that are there."""

    def instead(compares: Any) -> Any:
        def wrong(asked: Operator, leaf: Attribute, stored: Any, as_of: datetime) -> Any:
            if asked is meant and stored is not None:
                return otherwise(stored, leaf.value, as_of)
            return compares(asked, leaf, stored, as_of)

        return wrong

    return Slip(what, evaluate, "_compares", instead)


def _within(what: str, holds: Callable[[datetime, datetime, datetime], bool]) -> Slip:
    def otherwise(stored: Any, value: timedelta, as_of: datetime) -> bool:
        instant = parse_instant(stored) if isinstance(stored, str) else None
        return instant is not None and holds(as_of - value, instant, as_of)

    return _operator(what, Operator.WITHIN, otherwise)


def _order(meant: Operator, other: Operator) -> Slip:
    def instead(is_ordered: Any) -> Any:
        return lambda asked, stored, value: is_ordered(other if asked is meant else asked, stored, value)

    return Slip(f"{meant.value} is {other.value}", evaluate, "_is_ordered", instead)


def _window(what: str, kind: type, otherwise: Callable[[datetime, Any, datetime], bool]) -> Slip:
    def instead(in_window: Any) -> Any:
        def wrong(instant: datetime, window: Any, as_of: datetime) -> Any:
            return (otherwise if isinstance(window, kind) else in_window)(instant, window, as_of)

        return wrong

    return Slip(what, evaluate, "in_window", instead)


def _leaf(what: str, kind: type, taken_for: Callable[[Any], Leaf]) -> Slip:
    """Leaves of a kind are taken for others."""

    def instead(leaf_holds: Any) -> Any:
        def wrong(leaf: Any, facts: Any, as_of: datetime) -> Any:
            return leaf_holds(taken_for(leaf) if isinstance(leaf, kind) else leaf, facts, as_of)

        return wrong

    return Slip(what, evaluate, "leaf_holds", instead)


def _node(what: str, kind: type, otherwise: Callable[[Callable[[Predicate], bool], Any], bool]) -> Slip:
    def instead(holds: Any) -> Any:
        def wrong(node: Any, facts: Any, as_of: datetime) -> Any:
            if isinstance(node, kind):
                return otherwise(lambda clause: wrong(clause, facts, as_of), node)
            return holds(node, facts, as_of)

        return wrong

    return Slip(what, evaluate, "_holds", instead)


def _late(what: str, kind: type) -> Slip:
    def instead(flips: Any) -> Any:
        def wrong(leaf: Any, facts: Any, as_of: datetime) -> Any:
            late = TICK if isinstance(leaf, kind) else timedelta()
            return (at + late for at in flips(leaf, facts, as_of))

        return wrong

    return Slip(what, flip, "_flips", instead)


def _unseen(what: str, is_unseen: Callable[[EventFired], bool]) -> Slip:
    """These leaves are taken not to change."""

    def instead(flips: Any) -> Any:
        return lambda leaf, facts, as_of: iter(()) if is_unseen(leaf) else flips(leaf, facts, as_of)

    return Slip(what, flip, "_event_flips", instead)


def _with_dates(parse: Any) -> Any:
    return lambda text: parse(f"{text}T00:00:00Z" if len(text) == len("2026-03-10") else text)


def _into_lists(_: Any) -> Any:
    def find(document: Any, path: Any, absent: Any = None) -> Any:
        for name in path:
            if isinstance(document, list) and name.isdigit() and int(name) < len(document):
                document = document[int(name)]
            elif isinstance(document, dict) and name in document:
                document = document[name]
            else:
                return absent
        return document

    return find


def _missing_is_no(leaf_holds: Any) -> Any:
    """What is missing satisfies no operator but not_exists."""

    def wrong(leaf: Any, facts: Any, as_of: datetime) -> Any:
        if isinstance(leaf, Attribute) and leaf.operator in evaluate.POSITIVE:
            there = evaluate.stored_value(leaf, facts) is not None
            return leaf_holds(leaf, facts, as_of) and (there or leaf.operator is Operator.NOT_EXISTS)
        return leaf_holds(leaf, facts, as_of)

    return wrong


def _turned_around(leaf_holds: Any) -> Any:
    def wrong(leaf: Any, facts: Any, as_of: datetime) -> Any:
        is_list = isinstance(leaf, InCohort) and leaf.rules is None
        return leaf_holds(leaf, facts, as_of) != is_list

    return wrong


def _in_text(stored: Any, value: Any) -> bool:
    return isinstance(stored, str) and isinstance(value, str) and value in stored


def _contains_deep(stored: Any, value: Any, _: datetime) -> bool:
    if isinstance(stored, list):
        return any(values.equal(item, value) or _in_text(item, value) for item in stored)
    return _in_text(stored, value)


def _contains_folded(stored: Any, value: Any, _: datetime) -> bool:
    if isinstance(stored, list):
        return any(values.equal(item, value) for item in stored)
    return isinstance(stored, str) and isinstance(value, str) and value.lower() in stored.lower()


def _as_they_are(left: Any, right: Any) -> Any:
    return left, right


SLIPS = [
    swapped("true is 1", evaluate, "equal", operator.eq),
    swapped("true is a number", evaluate, "is_number", lambda value: isinstance(value, int | float)),
    swapped("numbers are equal by their bits", values, "comparable", _as_they_are),
    swapped("numbers are ordered by their bits", evaluate, "comparable", _as_they_are),
    swapped("in has Python's texts", evaluate, "text_of", str),
    Slip("dates are instants", evaluate, "parse_instant", _with_dates),
    Slip("paths walk into lists", evaluate, "find", _into_lists),
    Slip("what is missing satisfies no not", evaluate, "leaf_holds", _missing_is_no),
    _operator("exists is true", Operator.EXISTS, lambda stored, *_: bool(stored)),
    _operator("equals folds", Operator.EQUALS, lambda stored, value, _: str(stored).lower() == str(value).lower()),
    _operator("in is contains", Operator.IN, lambda stored, value, _: str(stored) in ",".join(map(str, value))),
    _operator("elements contain", Operator.CONTAINS, _contains_deep),
    _operator("contains folds", Operator.CONTAINS, _contains_folded),
    _within("within has a closed start", lambda start, at, end: start <= at <= end),
    _within("within has an open end", lambda start, at, end: start < at < end),
    _within("within has no end", lambda start, at, _: start < at),
    _order(Operator.GREATER_THAN, Operator.GREATER_OR_EQUAL),
    _order(Operator.GREATER_OR_EQUAL, Operator.GREATER_THAN),
    _order(Operator.LESS_THAN, Operator.LESS_OR_EQUAL),
    _order(Operator.LESS_OR_EQUAL, Operator.LESS_THAN),
    _window("last is closed", Last, lambda at, window, as_of: at >= as_of - window.duration),
    _window("last ends", Last, lambda at, window, as_of: as_of - window.duration < at < as_of),
    _window("since is open", Since, lambda at, window, as_of: as_of >= window.time and at > window.time),
    _window("since has always begun", Since, lambda at, window, _: at >= window.time),
    _leaf(
        "not is nothing, of fields",
        Attribute,
        lambda leaf: replace(leaf, operator=evaluate.POSITIVE.get(leaf.operator, leaf.operator)),
    ),
    _leaf("not is nothing, of events", EventFired, lambda leaf: replace(leaf, negated=False)),
    _leaf("one more event is needed", EventFired, lambda leaf: replace(leaf, at_least=leaf.at_least + 1)),
    _leaf(
        "any event is one of them",
        EventFired,
        lambda leaf: replace(leaf, source=replace(leaf.source, name=leaf.source.name or "buy")),
    ),
    _leaf("where is ignored", EventFired, lambda leaf: replace(leaf, source=Source(name=leaf.source.name))),
    _leaf("cohorts are looked up", InCohort, lambda leaf: replace(leaf, rules=None)),
    Slip("lists are turned around", evaluate, "leaf_holds", _turned_around),
    _node("and is or", AllOf, lambda holds, node: any(map(holds, node.clauses))),
    _node("or is and", AnyOf, lambda holds, node: all(map(holds, node.clauses))),
    _node("not is nothing", Not, lambda holds, node: holds(node.clause)),
    _late("events leave late", EventFired),
    _late("instants leave late", Attribute),
    _unseen("windows of since do not open", lambda leaf: isinstance(leaf.window, Since)),
    _unseen("what is negated does not change", lambda leaf: leaf.negated),
]
