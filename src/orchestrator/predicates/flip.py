"""When time alone could change an answer: until then, and without new facts, nobody need ask again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import assert_never

from orchestrator.predicates.evaluate import stored_value
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.tree import (
    Attribute,
    EventFired,
    Ever,
    Everyone,
    InCohort,
    Last,
    Leaf,
    Operator,
    Predicate,
    Since,
    leaves,
)


def next_flip(predicate: Predicate, facts: Facts, as_of: datetime) -> datetime | None:
    """The earliest instant after `as_of` at which the answer could differ with the same facts; None: it never will.

    It is when the first leaf changes, which need not change the whole: early costs one more look, late is never.
    """
    return min((flip for leaf in leaves(predicate) for flip in _flips(leaf, facts, as_of)), default=None)


def _flips(leaf: Leaf, facts: Facts, as_of: datetime) -> Iterator[datetime]:
    """The leaf's next change, if it has one."""
    match leaf:
        case EventFired():
            yield from _event_flips(leaf, facts, as_of)
        case Attribute(operator=Operator.WITHIN | Operator.NOT_WITHIN, value=timedelta() as duration):
            stored = stored_value(leaf, facts)
            instant = parse_instant(stored) if isinstance(stored, str) else None
            if instant is not None and instant > as_of:
                yield instant
            elif instant is not None and instant + duration > as_of:
                yield instant + duration
        case InCohort(cohort_id=cohort_id, rules=None):
            flip = facts.cohort_flips.get(cohort_id)
            if flip is not None and flip > as_of:
                yield flip
        case Attribute() | InCohort() | Everyone():
            pass
        case _:
            assert_never(leaf)


def _event_flips(leaf: EventFired, facts: Facts, as_of: datetime) -> Iterator[datetime]:
    """Events only leave a `last` window and, their start once passed, only stay in a `since` window."""
    events = facts.events.get(leaf.source)
    nth = events.nth_last(leaf.at_least) if events is not None else None
    if nth is None:
        return
    match leaf.window:
        case Ever():
            pass
        case Last(duration=duration):
            if nth + duration > as_of:
                yield nth + duration
        case Since(time=time):
            if nth >= time > as_of:
                yield time
        case _:
            assert_never(leaf.window)
