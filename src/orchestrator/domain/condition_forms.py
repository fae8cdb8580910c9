"""What steps wait for, and what rules end executions by, as people write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time, timedelta
from typing import Any

from orchestrator.domain.event import name_fault
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.journey import After, AttributeDate, Changed, ExitRule, Happened, TimeOfDay
from orchestrator.predicates.faults import under
from orchestrator.predicates.parse import About
from orchestrator.predicates.tree import Predicate

MAX_EXIT_RULES = 20
MAX_OFFSET = timedelta(days=730)
MAX_CLOCK = len("09:30:15")

#: Monday is 0, as in Python's `date.weekday`.
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")
_DAYS = {name: number for number, name in enumerate(WEEKDAYS)}
_AFTER = {after.value: after for after in After}


def read_time_of_day(form: FormReader, value: object, path: str) -> TimeOfDay | None:
    body = form.members(value, path, ("time", "weekdays"))
    if body is None:
        return None
    clock = read_clock(form, body.get("time"), under(path, "time"))
    weekdays = read_weekdays(form, body.get("weekdays"), under(path, "weekdays"))
    return TimeOfDay(clock=clock, weekdays=weekdays) if clock is not None else None


def read_weekdays(form: FormReader, value: object, path: str) -> frozenset[int]:
    weekdays: set[int] = set()
    for day_path, element in form.elements(value, path, len(WEEKDAYS)):
        if element is None:
            form.required(day_path, "a day of the week is required")
        day = form.choice(element, day_path, _DAYS)
        if day in weekdays:
            form.fault(day_path, "INVALID_VALUE", f"{WEEKDAYS[day]} stands here twice")
        elif day is not None:
            weekdays.add(day)
    return frozenset(weekdays)


def read_date(form: FormReader, value: object, path: str) -> AttributeDate | None:
    body = form.members(value, path, ("fieldPath", "before", "after", "time"))
    if body is None:
        return None
    found = form.field_path(body.get("fieldPath"), under(path, "fieldPath"))
    if body.get("before") is not None and body.get("after") is not None:
        form.fault(path, "INVALID_VALUE", "a date has one offset: this one has before and after")
    before = form.duration(body.get("before"), under(path, "before"), MAX_OFFSET)
    after = form.duration(body.get("after"), under(path, "after"), MAX_OFFSET)
    clock = _clock(form, body.get("time"), under(path, "time"))
    if found is None:
        return None
    return AttributeDate(path=found, offset=-before if before else after or timedelta(0), clock=clock)


def read_clock(form: FormReader, value: object, path: str) -> time | None:
    """A time of day that has to be there."""
    if value is None:
        form.required(path, "a time of day is required")
    return _clock(form, value, path)


def _clock(form: FormReader, value: object, path: str) -> time | None:
    if value is None:
        return None
    if not isinstance(value, str):
        form.fault(path, "INVALID_TYPE", "must be text, such as 09:30")
    elif (match := _CLOCK.fullmatch(value)) is None:
        form.fault(path, "INVALID_VALUE", "a time of day is 00:00 to 23:59, such as 09:30 or 09:30:15")
    else:
        hour, minute, second = match.groups()
        return time(int(hour), int(minute), int(second or 0))
    return None


def read_happened(form: FormReader, value: object, path: str, *, of_step: bool) -> Happened | None:
    """`of_step`: there is an arrival from which on events may count."""
    body = form.members(value, path, ("eventName", "where", "entryKeyPath", "after"))
    if body is None:
        return None
    name = _event_name(form, body.get("eventName"), under(path, "eventName"))
    where, key_path = body.get("where"), body.get("entryKeyPath")
    after = form.choice(body.get("after"), under(path, "after"), _AFTER) or After.ENTRY
    if after is After.STEP and not of_step:
        form.fault(under(path, "after"), "INVALID_VALUE", "a rule holds on every step: it counts from the entry")
    return Happened(
        event_name=name,
        where=form.predicate(where, under(path, "where"), About.EVENT) if where is not None else None,
        entry_key_path=(form.field_path(key_path, under(path, "entryKeyPath")) or ()) if key_path is not None else (),
        after=after,
    )


def _event_name(form: FormReader, value: object, path: str) -> str:
    if value is None or value == "":
        form.fault(path, "EVENT_NAME_REQUIRED", "the event's name is required")
    elif not isinstance(value, str):
        form.fault(path, "INVALID_TYPE", "must be text")
    elif (fault := name_fault(value, path)) is not None:
        form.faults.append(fault)
    else:
        return value
    return ""


def read_changed(form: FormReader, value: object, path: str) -> Changed | None:
    body = form.members(value, path, ("fieldPath",))
    if body is None:
        return None
    found = form.field_path(body.get("fieldPath"), under(path, "fieldPath"))
    return Changed(path=found) if found is not None else None


def read_exit_rules(form: FormReader, value: object, path: str) -> tuple[ExitRule, ...]:
    rules: list[ExitRule] = []
    taken: set[str] = set()
    for at, element in form.elements(value, path, MAX_EXIT_RULES):
        body = form.members(element, at, ("id", "when", "event"))
        if body is None:
            continue
        rule_id = form.own_id(body, at, taken, "exit rule")
        condition = _rule_condition(form, body, at)
        if condition is not None:
            rules.append(ExitRule(id=rule_id, condition=condition))
    return tuple(rules)


def _rule_condition(form: FormReader, body: Mapping[str, Any], path: str) -> Predicate | Happened | None:
    match form.only_one(body, ("when", "event"), path, "an exit rule has one condition"):
        case "when":
            return form.predicate(body["when"], under(path, "when"), About.EXECUTION)
        case "event":
            return read_happened(form, body["event"], under(path, "event"), of_step=False)
        case _:
            return None
