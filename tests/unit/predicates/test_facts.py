from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.predicates.cohorts import Cohorts
from orchestrator.predicates.facts import EventFacts, Needs, needs
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import ANY_EVENT, Predicate, Source

NOW = datetime(2026, 3, 10, tzinfo=UTC)
DAYS: dict[str, Any] = {"type": "last_n_days", "days": 7}
SINCE: dict[str, Any] = {"type": "since", "time": "2026-01-01T00:00:00Z"}


def tree(document: dict[str, Any]) -> Predicate:
    predicate, faults = parse(document, about=About.EXECUTION)
    assert predicate is not None, faults
    return predicate


def event(name: str, at_least: int = 1, window: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"kind": "event_fired", "eventName": name, "atLeast": at_least, "window": window}


def test_needs_are_those_of_all_predicates_together() -> None:
    first = {"kind": "and", "clauses": [event("buy", 2, DAYS), {"kind": "in_cohort", "cohortId": "vip"}]}
    path = {"kind": "attribute", "fieldPath": "$entry.a.b", "operator": "exists"}
    second = {"kind": "not", "clause": {"kind": "or", "clauses": [event("buy", 5, SINCE), event("view"), path]}}

    assert needs([tree(first), tree(second)]) == Needs(
        events={Source(name="buy"): 5, Source(name="view"): 0},
        cohorts=frozenset({"vip"}),
        paths=frozenset({("$entry", "a", "b")}),
    )


def test_only_windows_that_count_look_at_single_events() -> None:
    def depth(document: dict[str, Any]) -> int:
        return needs([tree(document)]).events[Source(name="buy")]

    assert depth(event("buy", 9)) == 0
    assert depth(event("buy", 1, DAYS)) == 0
    assert depth(event("buy", 1, SINCE)) == 0
    assert depth(event("buy", 2, DAYS)) == 2
    assert depth(event("buy", 9, SINCE)) == 9


def test_the_last_event_of_all_is_asked_of_every_event() -> None:
    leaf = {"kind": "attribute", "fieldPath": "$subject.last_event_at", "operator": "within", "value": "7d"}

    assert needs([tree(leaf)]).events == {ANY_EVENT: 0}
    assert needs([tree({"kind": "any_event", "window": DAYS})]).events == {ANY_EVENT: 0}


def test_events_are_told_apart_by_what_is_asked_of_them() -> None:
    dear = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 100}
    same = {"value": 100, "operator": "gt", "fieldPath": "amount", "kind": "attribute"}
    clauses = [event("buy", 2, DAYS), {**event("buy", 3, DAYS), "where": dear}, {**event("buy"), "where": same}]

    depths = needs([tree({"kind": "or", "clauses": clauses})]).events

    assert [(source.where is not None, depth) for source, depth in depths.items()] == [(False, 2), (True, 3)]


def test_the_rules_of_a_cohort_need_what_they_ask_and_no_membership() -> None:
    rules = tree({"kind": "and", "clauses": [event("buy"), {"kind": "in_cohort", "cohortId": "list"}]})
    inlined = Cohorts({"buyers": rules}).inline(tree({"kind": "in_cohort", "cohortId": "buyers"}))

    assert needs([inlined]) == Needs(events={Source(name="buy"): 0}, cohorts=frozenset({"list"}), paths=frozenset())


def test_nothing_needs_nothing() -> None:
    assert needs([]) == Needs(events={}, cohorts=frozenset(), paths=frozenset())


def test_the_nth_event_from_the_end_is_known_as_far_as_events_are_kept() -> None:
    recent = (NOW, NOW - timedelta(days=1))
    events = EventFacts(total=5, first_at=NOW - timedelta(days=900), last_at=NOW, recent=recent)

    assert [events.nth_last(n) for n in (1, 2, 3, 6)] == [*recent, None, None]
    assert EventFacts(total=5, first_at=NOW, last_at=NOW).nth_last(1) == NOW
