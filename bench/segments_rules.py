"""Segments to measure, each twice: as rules of the product, and as the condition an expert would write for it alone.

An expert knows the tables. He asks whole sets of subjects, so that the planner may hash them; he reads an event's row
of `subject_event_state` where one event suffices, and adds up days where more are needed, looking at raw events only in
the day through which the window's edge goes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_DAY = "interval '24 hours'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`sql` is a condition on a row `s` of subjects; $1 is the project and $2 the instant."""

    rules: dict[str, Any]
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Of events by name, and of the list `list_id`."""

    events: Mapping[str, int]
    list_id: str
    list_no: int


def segments(count: int, numbers: Numbers, anchor: datetime) -> dict[str, Asked]:
    """The first `count` segments, always the same ones: their leaves come from one stock, as those of a team do."""
    stock = _Stock(numbers, anchor)
    made: dict[str, Asked] = {}
    for number in range(count):
        draw = random.Random(f"segment {number}")
        earlier = [name for name in made if name.startswith("plain")]
        asked = stock.segment(draw, number, {name: made[name] for name in earlier})
        made[f"{'cohort' if number % 7 == 6 else 'plain'}-{number}"] = asked
    return made


class _Stock:
    def __init__(self, numbers: Numbers, anchor: datetime) -> None:
        self._numbers = numbers
        self._anchor = anchor

    def segment(self, draw: random.Random, number: int, earlier: Mapping[str, Asked]) -> Asked:
        match number % 7:
            case 0:
                return _both("and", self._attribute(draw), self._lately(draw))
            case 1:
                return self._often(draw)
            case 2:
                return _both("and", self._lately(draw), _not(self._lately(draw)))
            case 3:
                either = _both("or", self._attribute(draw), self._often(draw))
                return _both("and", either, self._active(draw))
            case 4:
                return _both("and", self._joined(draw), _not(self._active(draw)))
            case 5:
                return _both("and", self._attribute(draw), _both("or", self._ever(draw), self._on_list()))
            case _:
                cohort = draw.choice(sorted(earlier))
                inner = Asked(rules={"kind": "in_cohort", "cohortId": cohort}, sql=earlier[cohort].sql)
                return _both("and", inner, self._attribute(draw))

    def _attribute(self, draw: random.Random) -> Asked:
        match draw.randrange(6):
            case 0:
                plan = draw.choice(("pro", "team", "free"))
                return _field("plan", "equals", plan, f"s.attributes ->> 'plan' = '{plan}'")
            case 1:
                countries = draw.choice((["DE", "FR"], ["US", "GB", "JP"], ["ES", "IT", "NL", "PL"]))
                listed = ", ".join(f"'{country}'" for country in countries)
                return _field("country", "in", countries, f"s.attributes ->> 'country' IN ({listed})")
            case 2:
                age = draw.choice((25, 40, 60))
                return _field("age", "greater_than", age, f"(s.attributes ->> 'age')::int > {age}")
            case 3:
                score = draw.choice((20, 50, 80))
                return _field("score", "lt", score, f"(s.attributes ->> 'score')::numeric < {score}")
            case 4:
                tag = draw.choice(("vip", "beta", "new"))
                return _field("tags", "contains", tag, f"s.attributes -> 'tags' ? '{tag}'")
            case _:
                language = draw.choice(("de", "en"))
                condition = f"s.attributes -> 'profile' ->> 'language' = '{language}'"
                return _field("profile.language", "equals", language, condition)

    def _joined(self, draw: random.Random) -> Asked:
        days = draw.choice((30, 90, 180))
        signed_up = "to_timestamp((s.attribute_times ->> 'signupAt')::bigint / 1000000)"
        condition = f"{signed_up} > $2::timestamptz - {days} * {_DAY} AND {signed_up} <= $2::timestamptz"
        return _field("signupAt", "within", {"days": days}, condition)

    def _lately(self, draw: random.Random) -> Asked:
        name, days = draw.choice(list(self._numbers.events)), draw.choice((7, 30, 90))
        return _event(name, days, 1, self._state(self._numbers.events[name], days))

    def _active(self, draw: random.Random) -> Asked:
        days = draw.choice((7, 30, 90))
        window = {"type": "last_n_days", "days": days}
        return Asked(rules={"kind": "any_event", "window": window}, sql=self._state(0, days))

    def _ever(self, draw: random.Random) -> Asked:
        name, at_least = draw.choice(list(self._numbers.events)), draw.choice((1, 3))
        condition = _those(
            f"SELECT t.subject_no FROM subject_event_state AS t WHERE {_scope('t')}"
            f" AND t.name_no = {self._numbers.events[name]} AND t.total >= {at_least}"
        )
        return _event(name, None, at_least, condition)

    def _often(self, draw: random.Random) -> Asked:
        name, days = draw.choice(("page_viewed", "purchase", "searched", "added_to_cart")), draw.choice((30, 90))
        at_least = draw.choice((2, 3))
        cut, name_no = f"($2::timestamptz - {days} * {_DAY})", self._numbers.events[name]
        raw = (
            f"(SELECT count(*) FROM events AS e WHERE e.project_no = $1 AND e.bucket = t.bucket"
            f" AND e.subject_no = t.subject_no AND e.name_no = {name_no} AND e.occurred_at > {cut}"
            f" AND e.occurred_at < (t.day + 1)::timestamp AT TIME ZONE 'UTC')"
        )
        condition = _those(
            f"SELECT t.subject_no FROM subject_event_days AS t WHERE {_scope('t')} AND t.name_no = {name_no}"
            f" AND t.day >= ({cut} AT TIME ZONE 'UTC')::date GROUP BY t.bucket, t.subject_no"
            f" HAVING sum(CASE WHEN t.first_at > {cut} THEN t.total WHEN t.last_at > {cut} THEN {raw} ELSE 0 END)"
            f" >= {at_least}"
        )
        return _event(name, days, at_least, condition)

    def _on_list(self) -> Asked:
        condition = _those(
            f"SELECT m.subject_no FROM static_members AS m WHERE {_scope('m')}"
            f" AND m.segment_no = {self._numbers.list_no}"
        )
        return Asked(rules={"kind": "in_cohort", "cohortId": self._numbers.list_id}, sql=condition)

    def _state(self, name_no: int, days: int) -> str:
        return _those(
            f"SELECT t.subject_no FROM subject_event_state AS t WHERE {_scope('t')} AND t.name_no = {name_no}"
            f" AND t.last_at > $2::timestamptz - {days} * {_DAY}"
        )


def _field(path: str, operator: str, value: object, sql: str) -> Asked:
    rules = {"kind": "attribute", "fieldPath": path, "operator": operator, "value": value}
    return Asked(rules=rules, sql=f"({sql})")


def _event(name: str, days: int | None, at_least: int, sql: str) -> Asked:
    window = {"type": "last_n_days", "days": days} if days else {"type": "ever"}
    return Asked(rules={"kind": "event_fired", "eventName": name, "window": window, "atLeast": at_least}, sql=sql)


def _both(kind: str, first: Asked, second: Asked) -> Asked:
    return Asked(
        rules={"kind": kind, "clauses": [first.rules, second.rules]}, sql=f"({first.sql} {kind.upper()} {second.sql})"
    )


def _not(asked: Asked) -> Asked:
    return Asked(rules={"kind": "not", "clause": asked.rules}, sql=f"(NOT {asked.sql})")


def _those(query: str) -> str:
    return f"s.subject_no IN ({query})"


def _scope(alias: str) -> str:
    """The rows of half of the project: experts, too, have two connections."""
    return f"{alias}.project_no = $1 AND {alias}.bucket BETWEEN $3 AND $4"
