from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.predicates.facts import EventFacts, Facts
from orchestrator.predicates.flip import next_flip
from orchestrator.predicates.parse import parse
from orchestrator.predicates.tree import Source

BUY = Source(name="buy")
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)

RECENT = (NOW - DAY, NOW - 2 * DAY, NOW - 6 * DAY)
FACTS = Facts(
    attributes={"past": "2026-03-09T12:00:00Z", "future": "2026-03-11T12:00:00Z", "text": "soon"},
    events={BUY: EventFacts(total=3, first_at=RECENT[-1], last_at=RECENT[0], recent=RECENT)},
)


def event(window: dict[str, Any], at_least: int = 1, name: str = "buy") -> dict[str, Any]:
    return {"kind": "event_fired", "eventName": name, "window": window, "atLeast": at_least}


def attribute(field: str, operator: str, value: object) -> dict[str, Any]:
    return {"kind": "attribute", "fieldPath": field, "operator": operator, "value": value}


WEEK = {"type": "last_n_days", "days": 7}
NOON = {"type": "last", "duration": "1d"}


@pytest.mark.parametrize(
    ("document", "flip"),
    [
        (event({"type": "ever"}), None),
        (event(WEEK), NOW + 6 * DAY),
        (event(WEEK) | {"kind": "event_not_fired"}, NOW + 6 * DAY),
        ({"kind": "not", "clause": event(WEEK)}, NOW + 6 * DAY),
        (event(WEEK, 2), NOW + 5 * DAY),
        (event(WEEK, 3), NOW + DAY),
        (event(WEEK, 4), None),
        (event(WEEK, name="view"), None),
        (event(NOON), None),
        (event({"type": "since", "time": "2026-03-01T00:00:00Z"}), None),
        (event({"type": "since", "time": "2026-03-11T00:00:00Z"}), None),
        (attribute("past", "within", "2d"), NOW + DAY),
        (attribute("past", "not_within", "2d"), NOW + DAY),
        (attribute("past", "within", "1d"), None),
        (attribute("future", "within", "1d"), NOW + DAY),
        (attribute("text", "within", "1d"), None),
        (attribute("missing", "not_within", "1d"), None),
        (attribute("future", "gt", "2026-03-10T12:00:00Z"), None),
        ({"kind": "everyone"}, None),
        ({"kind": "in_cohort", "cohortId": "gone"}, None),
        ({"kind": "or", "clauses": [event(WEEK), attribute("future", "within", "1d")]}, NOW + DAY),
    ],
    ids=lambda part: str(part)[:60],
)
def test_the_next_flip_is_when_the_first_leaf_changes(document: dict[str, Any], flip: datetime | None) -> None:
    predicate, _ = parse(document)
    assert predicate is not None

    assert next_flip(predicate, FACTS, NOW) == flip


def test_an_edge_belongs_to_what_comes_after_it() -> None:
    predicate, _ = parse(event(NOON))
    assert predicate is not None

    assert next_flip(predicate, FACTS, NOW - TICK) == NOW
    assert next_flip(predicate, FACTS, NOW) is None


def test_an_instant_that_has_come_is_followed_by_its_leaving() -> None:
    predicate, _ = parse(attribute("future", "within", "2d"))
    assert predicate is not None

    assert next_flip(predicate, FACTS, NOW + DAY - TICK) == NOW + DAY
    assert next_flip(predicate, FACTS, NOW + DAY) == NOW + 3 * DAY


def test_a_since_window_opens_upon_events_that_were_dated_into_it() -> None:
    predicate, _ = parse(event({"type": "since", "time": "2026-03-11T12:00:00Z"}))
    assert predicate is not None

    def flip_with(last_at: datetime) -> datetime | None:
        return next_flip(predicate, Facts(events={BUY: EventFacts(total=1, first_at=NOW, last_at=last_at)}), NOW)

    assert flip_with(NOW + DAY) == NOW + DAY
    assert flip_with(NOW + 2 * DAY) == NOW + DAY
    assert flip_with(NOW + DAY - TICK) is None


@pytest.mark.parametrize(
    ("known", "flip"),
    [({}, None), ({"quiet": NOW + DAY}, NOW + DAY), ({"quiet": NOW}, None), ({"other": NOW + DAY}, None)],
)
def test_a_cohort_whose_rules_were_asked_elsewhere_flips_when_they_do(
    known: dict[str, datetime], flip: datetime | None
) -> None:
    predicate, _ = parse({"kind": "not", "clause": {"kind": "in_cohort", "cohortId": "quiet"}})
    assert predicate is not None
    facts = Facts(known_cohorts=frozenset({"quiet"}), cohort_flips=known)

    assert next_flip(predicate, facts, NOW) == flip
