from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.predicates.facts import EventFacts, Needs, needs
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Predicate

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
        events={"buy": 5, "view": 0},
        cohorts=frozenset({"vip"}),
        paths=frozenset({("$entry", "a", "b")}),
    )


def test_only_windows_that_count_look_at_single_events() -> None:
    def depth(document: dict[str, Any]) -> int:
        return needs([tree(document)]).events["buy"]

    assert depth(event("buy", 9)) == 0
    assert depth(event("buy", 1, DAYS)) == 0
    assert depth(event("buy", 1, SINCE)) == 0
    assert depth(event("buy", 2, DAYS)) == 2
    assert depth(event("buy", 9, SINCE)) == 9


def test_nothing_needs_nothing() -> None:
    assert needs([]) == Needs(events={}, cohorts=frozenset(), paths=frozenset())


def test_the_nth_event_from_the_end_is_known_as_far_as_events_are_kept() -> None:
    recent = (NOW, NOW - timedelta(days=1))
    events = EventFacts(total=5, first_at=NOW - timedelta(days=900), last_at=NOW, recent=recent)

    assert [events.nth_last(n) for n in (1, 2, 3, 6)] == [*recent, None, None]
    assert EventFacts(total=5, first_at=NOW, last_at=NOW).nth_last(1) == NOW
