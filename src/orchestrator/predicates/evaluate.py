"""What a predicate means for one subject: the reference that every other engine has to agree with."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_never

from orchestrator.predicates import builtin
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.instants import parse_instant, write_instant
from orchestrator.predicates.paths import ENTRY, STEPS, find
from orchestrator.predicates.tree import (
    ANY_EVENT,
    AllOf,
    AnyOf,
    Attribute,
    EventFired,
    Ever,
    Everyone,
    InCohort,
    Last,
    Leaf,
    Not,
    Operator,
    Predicate,
    Since,
    Window,
    leaves,
)
from orchestrator.predicates.values import comparable, equal, is_number, text_of

#: `not_x` is exactly NOT `x`.
POSITIVE = {
    Operator.NOT_EQUALS: Operator.EQUALS,
    Operator.NOT_EXISTS: Operator.EXISTS,
    Operator.NOT_CONTAINS: Operator.CONTAINS,
    Operator.NOT_WITHIN: Operator.WITHIN,
}


class Missing(Exception):
    """The predicate asks about something that no longer exists. `reason` is stable: `segment_not_found`."""

    def __init__(self, *, what: str, id: str) -> None:
        self.what = what
        self.id = id
        self.reason = f"{what}_not_found"
        super().__init__(f"{what} {id} does not exist")


def evaluate(predicate: Predicate, facts: Facts, as_of: datetime) -> bool:
    """Does it hold for this subject at `as_of` (aware)?

    Raises Missing when any leaf names a segment that does not exist, whether or not the answer would turn on it: so
    neither the order of clauses nor the subject at hand can hide it. Of several, the smallest id is named.
    """
    missing = _missing_cohorts(predicate, facts)
    if missing:
        raise Missing(what="segment", id=min(missing))
    return _holds(predicate, facts, as_of)


def _missing_cohorts(predicate: Predicate, facts: Facts) -> set[str]:
    """The segments it names that do not exist."""
    named = {leaf.cohort_id for leaf in leaves(predicate) if isinstance(leaf, InCohort) and leaf.rules is None}
    return named - facts.known_cohorts


def _holds(predicate: Predicate, facts: Facts, as_of: datetime) -> bool:
    match predicate:
        case AllOf(clauses=clauses):
            return all(_holds(clause, facts, as_of) for clause in clauses)
        case AnyOf(clauses=clauses):
            return any(_holds(clause, facts, as_of) for clause in clauses)
        case Not(clause=clause):
            return not _holds(clause, facts, as_of)
        case _:
            return leaf_holds(predicate, facts, as_of)


def leaf_holds(leaf: Leaf, facts: Facts, as_of: datetime) -> bool:
    """A leaf is true or false, never unknown. Whether a cohort exists is the caller's business."""
    match leaf:
        case EventFired(negated=negated):
            return _fired(leaf, facts, as_of) != negated
        case Attribute(operator=operator):
            stored = stored_value(leaf, facts)
            if operator in POSITIVE:
                return not _compares(POSITIVE[operator], leaf, stored, as_of)
            return _compares(operator, leaf, stored, as_of)
        case InCohort(cohort_id=cohort_id, rules=rules):
            return cohort_id in facts.cohorts if rules is None else _holds(rules, facts, as_of)
        case Everyone():
            return True
        case _:
            assert_never(leaf)


def stored_value(leaf: Attribute, facts: Facts, absent: Any = None) -> Any:
    """The value of the field the leaf tests, or `absent`."""
    match leaf.path:
        case builtin.CREATED_AT:
            return _written(facts.created_at, absent)
        case builtin.LAST_EVENT_AT:
            events = facts.events.get(ANY_EVENT)
            return _written(events.last_at if events else None, absent)
        case builtin.TIME_ZONE:
            return facts.time_zone if facts.time_zone is not None else absent
        case (first, *rest) if first == ENTRY:
            return find(facts.entry, rest, absent)
        case (first, *rest) if first == STEPS:
            return find(facts.steps, rest, absent)
    return find(facts.attributes, leaf.path, absent)


def _written(instant: datetime | None, absent: Any) -> Any:
    return write_instant(instant) if instant is not None else absent


def in_window(instant: datetime, window: Window, as_of: datetime) -> bool:
    """Is an event of that instant in the window? Only its start is looked at.

    What has arrived counts, so an instant that is later than `as_of` counts as `as_of` itself.
    """
    match window:
        case Ever():
            return True
        case Last(duration=duration):
            return instant > as_of - duration
        case Since(time=time):
            return as_of >= time and instant >= time
        case _:
            assert_never(window)


def _fired(leaf: EventFired, facts: Facts, as_of: datetime) -> bool:
    """At least n events are in a window exactly when the n-th from the end is."""
    events = facts.events.get(leaf.source)
    if events is None:
        return False
    if isinstance(leaf.window, Ever):
        return events.total >= leaf.at_least
    nth = events.nth_last(leaf.at_least)
    return nth is not None and in_window(nth, leaf.window, as_of)


def _compares(operator: Operator, leaf: Attribute, stored: Any, as_of: datetime) -> bool:
    """The positive operators. A field that is missing, or null, satisfies none of them."""
    if stored is None:
        return False
    match operator:
        case Operator.EXISTS:
            return True
        case Operator.EQUALS:
            return equal(stored, leaf.value)
        case Operator.IN:
            if leaf.texts:
                return text_of(stored) in leaf.value
            return any(equal(stored, item) for item in leaf.value)
        case Operator.CONTAINS:
            if isinstance(stored, str):
                return isinstance(leaf.value, str) and leaf.value in stored
            return isinstance(stored, list) and any(equal(item, leaf.value) for item in stored)
        case Operator.WITHIN:
            instant = parse_instant(stored) if isinstance(stored, str) else None
            return instant is not None and as_of - leaf.value < instant <= as_of
        case _:
            return _is_ordered(operator, stored, leaf.value)


def _is_ordered(operator: Operator, stored: Any, value: Any) -> bool:
    left: Any
    if isinstance(value, datetime):
        left = parse_instant(stored) if isinstance(stored, str) else None
    else:
        left, value = comparable(stored, value) if is_number(stored) else (None, value)
    if left is None:
        return False
    match operator:
        case Operator.GREATER_THAN:
            return bool(left > value)
        case Operator.GREATER_OR_EQUAL:
            return bool(left >= value)
        case Operator.LESS_THAN:
            return bool(left < value)
        case Operator.LESS_OR_EQUAL:
            return bool(left <= value)
        case _:
            raise ValueError(f"{operator} is not an order")
