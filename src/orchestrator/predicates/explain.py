"""Why a predicate holds or does not: the tree again, each node with its truth, each leaf with its evidence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, assert_never

from orchestrator.predicates.evaluate import in_window, leaf_holds, stored_value
from orchestrator.predicates.facts import EventFacts, Facts
from orchestrator.predicates.instants import write_instant
from orchestrator.predicates.paths import join_path
from orchestrator.predicates.reveal import Reveal
from orchestrator.predicates.tree import (
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
    Predicate,
    Since,
    Source,
    Window,
)
from orchestrator.predicates.values import type_name

_ABSENT = object()


def explain(predicate: Predicate, facts: Facts, as_of: datetime, *, reveal: Reveal | None) -> dict[str, Any]:
    """JSON: `kind`, `truth`, and `clauses`, `clause`, a cohort's `rules` or the leaf's names and `evidence`.

    `truth` is null where a segment that does not exist leaves the question without an answer: in that leaf, which names
    it, and in all that contain it, as `evaluate` would raise for each of them. `reveal` says of a field path whether
    its value may be shown, or else only its type; None: all values are shown.
    """
    match predicate:
        case AllOf(clauses=clauses):
            return _composite("and", clauses, all, facts, as_of, reveal)
        case AnyOf(clauses=clauses):
            return _composite("or", clauses, any, facts, as_of, reveal)
        case Not(clause=clause):
            node = explain(clause, facts, as_of, reveal=reveal)
            truth = None if node["truth"] is None else not node["truth"]
            return {"kind": "not", "truth": truth, "clause": node}
        case InCohort(cohort_id=cohort_id, rules=rules) if rules is not None:
            node = explain(rules, facts, as_of, reveal=reveal)
            return {"kind": "in_cohort", "truth": node["truth"], "cohortId": cohort_id, "rules": node}
        case InCohort(cohort_id=cohort_id) if cohort_id not in facts.known_cohorts:
            return {"kind": "in_cohort", "truth": None, "cohortId": cohort_id, "evidence": {"missing": "segment"}}
        case _:
            return _leaf(predicate, leaf_holds(predicate, facts, as_of), facts, as_of, reveal)


def _composite(
    kind: str,
    clauses: tuple[Predicate, ...],
    combine: Callable[[list[bool]], bool],
    facts: Facts,
    as_of: datetime,
    reveal: Reveal | None,
) -> dict[str, Any]:
    nodes = [explain(clause, facts, as_of, reveal=reveal) for clause in clauses]
    truths = [node["truth"] for node in nodes]
    return {"kind": kind, "truth": None if None in truths else combine(truths), "clauses": nodes}


def _leaf(leaf: Leaf, truth: bool, facts: Facts, as_of: datetime, reveal: Reveal | None) -> dict[str, Any]:
    match leaf:
        case Everyone():
            return {"kind": "everyone", "truth": truth}
        case InCohort(cohort_id=cohort_id):
            return {"kind": "in_cohort", "truth": truth, "cohortId": cohort_id, "evidence": {"member": truth}}
        case EventFired(source=Source(name=None)):
            return {"kind": "any_event", "truth": truth, "evidence": _of_events(leaf, facts, as_of)}
        case EventFired(source=Source(name=name), negated=negated):
            kind = "event_not_fired" if negated else "event_fired"
            return {"kind": kind, "truth": truth, "eventName": name, "evidence": _of_events(leaf, facts, as_of)}
        case Attribute(path=path, operator=operator):
            return {
                "kind": "attribute",
                "truth": truth,
                "fieldPath": join_path(path),
                "operator": operator.value,
                "evidence": _of_attribute(leaf, facts, reveal),
            }
        case _:
            assert_never(leaf)


def _of_attribute(leaf: Attribute, facts: Facts, reveal: Reveal | None) -> dict[str, Any]:
    stored = stored_value(leaf, facts, _ABSENT)
    if stored is _ABSENT:
        return {"type": "missing"}
    if stored is None:
        return {"type": "null"}
    shown = {"value": stored} if reveal is None or reveal(leaf.path) else {"masked": True}
    return {"type": type_name(stored), **shown}


def _of_events(leaf: EventFired, facts: Facts, as_of: datetime) -> dict[str, Any]:
    """`counted` stops at `needed`: how many more there are in the window makes no difference and is not known."""
    events = facts.events.get(leaf.source)
    evidence: dict[str, Any] = {
        "total": events.total if events else 0,
        "counted": _counted(leaf, events, as_of) if events else 0,
        "needed": leaf.at_least,
    }
    start = _window_start(leaf.window, as_of)
    if start is not None:
        evidence["windowStart"] = write_instant(start)
    if events is not None:
        evidence |= {"firstAt": write_instant(events.first_at), "lastAt": write_instant(events.last_at)}
    return evidence


def _counted(leaf: EventFired, events: EventFacts, as_of: datetime) -> int:
    if isinstance(leaf.window, Ever):
        return min(events.total, leaf.at_least)
    instants = (events.nth_last(n) for n in range(1, leaf.at_least + 1))
    return sum(instant is not None and in_window(instant, leaf.window, as_of) for instant in instants)


def _window_start(window: Window, as_of: datetime) -> datetime | None:
    match window:
        case Ever():
            return None
        case Last(duration=duration):
            return as_of - duration
        case Since(time=time):
            return time
        case _:
            assert_never(window)
