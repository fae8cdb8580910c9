"""Conditions while they are translated: predicates in JSON, in which `UNKNOWN` stands for what cannot be asked here.

In the end nothing unknown is left: where it would let people in it holds for nobody, and under a `not` for everybody.
So what comes out never holds for anybody for whom the original does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

Condition = dict[str, Any]

EVERYONE: Condition = {"kind": "everyone"}
NOBODY: Condition = {"kind": "not", "clause": EVERYONE}
UNKNOWN: Condition = {"kind": "unknown"}


def in_cohort(segment_id: str) -> Condition:
    return {"kind": "in_cohort", "cohortId": segment_id}


def attribute(field_path: str, operator: str, value: Any) -> Condition:
    return {"kind": "attribute", "fieldPath": field_path, "operator": operator, "value": value}


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Everyone, of none."""
    clauses = [condition for condition in conditions if condition != EVERYONE]
    match clauses:
        case []:
            return EVERYONE
        case [only]:
            return only
        case _:
            return {"kind": "and", "clauses": clauses}


def any_of(conditions: Iterable[Condition]) -> Condition:
    """Nobody, of none."""
    match list(conditions):
        case []:
            return NOBODY
        case [only]:
            return only
        case clauses:
            return {"kind": "or", "clauses": clauses}


def negated(condition: Condition) -> Condition:
    return {"kind": "not", "clause": condition}


def combined(how: str | None, conditions: Iterable[Condition]) -> Condition:
    """By Pinpoint's ALL (also if it does not say), ANY or NONE."""
    match how:
        case "ANY":
            return any_of(conditions)
        case "NONE":
            return negated(any_of(conditions))
        case _:
            return all_of(conditions)


def is_exact(condition: Condition, narrowed_segments: Set[str]) -> bool:
    """Whether nothing in it is unknown, and no segment narrower than it was."""
    match condition["kind"]:
        case "unknown":
            return False
        case "in_cohort":
            return condition["cohortId"] not in narrowed_segments
        case _:
            return all(is_exact(clause, narrowed_segments) for clause in _clauses(condition))


def narrowed(condition: Condition, narrowed_segments: Set[str], *, under_not: bool = False) -> Condition:
    """The condition without unknown parts."""
    match condition["kind"]:
        case "unknown":
            return EVERYONE if under_not else NOBODY
        case "in_cohort" if under_not and condition["cohortId"] in narrowed_segments:
            return EVERYONE
        case "and" | "or":
            clauses = [narrowed(clause, narrowed_segments, under_not=under_not) for clause in condition["clauses"]]
            return {**condition, "clauses": clauses}
        case "not":
            return negated(narrowed(condition["clause"], narrowed_segments, under_not=not under_not))
        case _:
            return condition


def _clauses(condition: Condition) -> list[Condition]:
    if "clause" in condition:
        return [condition["clause"]]
    clauses: list[Condition] = condition.get("clauses", [])
    return clauses
