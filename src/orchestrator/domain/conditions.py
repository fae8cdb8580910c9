"""What an execution waits for, and what it leaves for: whether it holds, when time alone could change that, and what
has to happen before anybody need look again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from orchestrator.domain.journey import (
    After,
    AttributeDate,
    Branch,
    Changed,
    Condition,
    Definition,
    Exit,
    Happened,
    Send,
    Step,
    TimeOfDay,
    WaitFor,
    WaitUntil,
)
from orchestrator.predicates.builtin import LAST_EVENT_AT, SUBJECT
from orchestrator.predicates.evaluate import evaluate
from orchestrator.predicates.facts import Facts
from orchestrator.predicates.flip import next_flip
from orchestrator.predicates.paths import ENTRY, STEPS, find
from orchestrator.predicates.tree import Attribute, EventFired, Everyone, InCohort, Predicate, leaves

#: Topics: what can happen to a subject. Besides these, `event:` and a name, and `segment:` and an id.
ATTRIBUTES = "attributes"
ANY_EVENT = "events"
PREFERENCES = "preferences"
#: Not of a subject: what holds off sends is otherwise.
GATES = "gates"
_EVENT, _SEGMENT = "event:", "segment:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What let an execution in: when it was triggered, and what tells the entry from others."""

    key: str
    at: datetime


def event_topic(name: str) -> str:
    return _EVENT + name


def segment_topic(segment_id: str) -> str:
    return _SEGMENT + segment_id


def event_in(topic: str) -> str | None:
    """The event's name that a topic is about; None: it is about something else."""
    return topic.removeprefix(_EVENT) if topic.startswith(_EVENT) else None


def segment_in(topic: str) -> str | None:
    """The segment that a topic is about; None: it is about something else."""
    return topic.removeprefix(_SEGMENT) if topic.startswith(_SEGMENT) else None


def is_about_segments(topic: str) -> bool:
    return topic.startswith(_SEGMENT)


def holds(
    condition: Condition,
    subject: Facts,
    last: datetime | None,
    since: datetime,
    mark: str | None,
    now: datetime,
) -> bool:
    """Whether it holds at `now`, for an execution that stands there `since`.

    `last` is when the newest event occurred that it counts (`matches`), of those that are later than the entry. Raises
    Missing as `evaluate` does.
    """
    match condition:
        case Happened(after=after):
            return last is not None and (after is After.ENTRY or last > since)
        case Changed():
            return mark != mark_of(condition, subject)
        case _:
            return evaluate(condition, subject, now)


def flip(condition: Condition, subject: Facts, now: datetime) -> datetime | None:
    """The earliest instant after `now` at which time alone could make it hold, or hold no longer; None: never."""
    match condition:
        case Happened() | Changed():
            return None
        case _:
            return next_flip(condition, subject, now)


def mark_of(condition: Changed, subject: Facts) -> str:
    """A digest of the attribute's value; absent is a value of its own, and numbers are what they are worth."""
    absent = object()
    value = find(subject.attributes, condition.path, absent)
    text = "" if value is absent else json.dumps(_by_value(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _by_value(value: Any) -> Any:
    """The same JSON value, with whole numbers written in one way."""
    match value:
        case dict():
            return {name: _by_value(member) for name, member in value.items()}
        case list():
            return [_by_value(element) for element in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def matches(condition: Happened, entry_key: str | None, properties: Mapping[str, Any], at: datetime) -> bool:
    """Whether an event of its name, which occurred at `at`, is one that it counts."""
    if condition.entry_key_path and key_in(properties, condition.entry_key_path) != entry_key:
        return False
    return condition.where is None or evaluate(condition.where, Facts(attributes=properties), at)


#: Characters of the key of an entry.
MAX_ENTRY_KEY = 512


def key_in(properties: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    """The key that stands at `path` of an event's properties: strings stand for themselves, numbers and booleans in
    their JSON spelling; anything else is no key.
    """
    value: Any = find(properties, path, None)
    match value:
        case str() if 0 < len(value) <= MAX_ENTRY_KEY:
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return repr(value)
        case float():
            return repr(int(value)) if value.is_integer() else repr(value)
        case _:
            return None


def happenings(definition: Definition) -> dict[str, Happened]:
    """The events that steps wait for and rules leave for, by `rule:` or `step:` and the id."""
    named: dict[str, Happened] = {}
    for rule in definition.exit_rules:
        if isinstance(rule.condition, Happened):
            named[rule_name(rule.id)] = rule.condition
    for step in definition.steps.values():
        if isinstance(step, WaitFor) and isinstance(step.condition, Happened):
            named[step_name(step.id)] = step.condition
    return named


def rule_name(rule_id: str) -> str:
    return f"rule:{rule_id}"


def step_name(step_id: str) -> str:
    return f"step:{step_id}"


def topics(definition: Definition, step: Step, goal_event: str | None, *, sleeps: bool = True) -> frozenset[str]:
    """What can happen to a subject whose execution stands on this step and makes it go on, or leave.

    Who does not sleep on a send is at it, and asks all gates again before it is made.
    """
    if isinstance(step, Exit):
        return frozenset()
    found = {topic for rule in definition.exit_rules for topic in _topics_of(rule.condition)}
    if definition.exit_on_goal and goal_event:
        found.add(event_topic(goal_event))
    match step:
        case WaitFor(condition=condition):
            found.update(_topics_of(condition))
        case Branch(arms=arms):  # nobody stands on one, but whom another arm has parked
            found.update(topic for arm in arms for topic in _topics_of(arm.when))
        case WaitUntil(until=TimeOfDay() | AttributeDate()):
            found.add(ATTRIBUTES)  # the date, and the time zone
        case Send() if sleeps:
            found.update((PREFERENCES, ATTRIBUTES, GATES))
        case _:
            pass
    return frozenset(found)


def _topics_of(condition: Condition) -> Iterable[str]:
    match condition:
        case Happened(event_name=name):
            return [event_topic(name)]
        case Changed():
            return [ATTRIBUTES]
        case _:
            return _topics_of_leaves(condition)


def _topics_of_leaves(predicate: Predicate) -> Iterator[str]:
    for leaf in leaves(predicate):
        match leaf:
            case EventFired(source=source):
                yield event_topic(source.name) if source.name is not None else ANY_EVENT
            case Attribute(path=path) if path == LAST_EVENT_AT:
                yield ANY_EVENT
            case Attribute(path=path):
                if path[0] not in (ENTRY, STEPS) and path != (SUBJECT, "created_at"):
                    yield ATTRIBUTES
            case InCohort(cohort_id=cohort_id):
                yield segment_topic(cohort_id)
            case Everyone():
                pass
            case _:
                assert_never(leaf)
