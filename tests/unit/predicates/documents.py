"""Strategies for predicates and subjects. Few names, values and instants, all near each other, so that they collide."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.conformance.worlds import Happened, World

Document = dict[str, Any]

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
SPANS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "2d": timedelta(days=2), "7d": timedelta(days=7)}
INSTANTS = sorted(
    {NOW + shift for span in SPANS.values() for shift in (-span - TICK, -span, -span + TICK)}
    | {NOW - TICK, NOW, NOW + TICK, NOW + timedelta(minutes=30), NOW - timedelta(days=400)}
)
TIMES = [instant.isoformat().replace("+00:00", "Z") for instant in INSTANTS] + ["2026-03-10T14:00:00+02:00"]
NUMBERS = [0, 1, 1.0, -0.0, 0.1, 2**53, 2**53 + 1, 2**60, 2.0**60, 1e21]
SCALARS = [True, False, *NUMBERS, "", "0", "1", "true", "a", "ab", "A", "é", "2026-03-10"]
VALUES = [*SCALARS, *TIMES[-7:], [], [1], [True], ["a"], [[1]], [None], {}, {"a": 1}, {"a": None}, {"a": 1.0, "b": []}]
NAMES = ["a", "b", "a.b", "0"]
PATHS = ["a", "b", "a.b", "b.a", "a\\.b", "a.0", "a.b.0"]
ENTRY_PATHS = ["$entry.a", "$entry.a.b"]
EVENTS = ["buy", "view"]
COHORTS = ["vip", "trial", "gone"]
KNOWN_COHORTS = frozenset(COHORTS) - {"gone"}

instants = st.sampled_from(INSTANTS)
values = st.sampled_from(VALUES)
objects = st.recursive(
    st.sampled_from([None, *VALUES]),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)


def worlds(known_cohorts: frozenset[str] = frozenset(COHORTS)) -> st.SearchStrategy[World]:
    attributes = st.dictionaries(st.sampled_from(NAMES), objects, max_size=4)
    properties = st.dictionaries(st.sampled_from(NAMES), objects, max_size=2)
    events = st.dictionaries(st.sampled_from(EVENTS), st.lists(st.builds(Happened, instants, properties), max_size=6))
    cohorts = st.frozensets(st.sampled_from(COHORTS))
    return st.builds(
        World,
        attributes=attributes,
        entry=attributes,
        events=events,
        cohorts=cohorts,
        known_cohorts=st.just(known_cohorts),
        created_at=instants,
        time_zone=st.sampled_from([None, "Europe/Berlin", "America/New_York"]),
    )


windows: st.SearchStrategy[Document] = st.one_of(
    st.just({"type": "ever"}),
    st.sampled_from([1, 2, 7, 7.0]).map(lambda days: {"type": "last_n_days", "days": days}),
    st.sampled_from(list(SPANS)).map(lambda span: {"type": "last", "duration": span}),
    st.sampled_from(TIMES).map(lambda time: {"type": "since", "time": time}),
)


@st.composite
def event_leaves(draw: st.DrawFn) -> Document:
    document: Document = {
        "kind": draw(st.sampled_from(["event_fired", "event_not_fired"])),
        "eventName": draw(st.sampled_from(EVENTS)),
    }
    if draw(st.booleans()):
        document["window"] = draw(windows)
    if draw(st.booleans()):
        document["atLeast"] = draw(st.integers(1, 4))
    if draw(st.booleans()):
        document["where"] = draw(wheres)
    return document


any_event_leaves: st.SearchStrategy[Document] = windows.map(lambda window: {"kind": "any_event", "window": window})


def _operands(operator: str) -> st.SearchStrategy[Any]:
    if operator in ("exists", "not_exists"):
        return st.none() | values
    if operator == "in":
        texts = st.lists(
            st.sampled_from(["a", " ab", "1", "1.0", "0", "0.1 ", "true", "", "9007199254740992"]), min_size=1
        )
        return st.lists(values, min_size=1, max_size=4) | texts.map(",".join).filter(lambda text: text.strip(", "))
    if operator in ("within", "not_within"):
        return st.sampled_from(["1h", "24h", "2d", "7d", {"days": 2}, {"hours": 1}, {"minutes": 60}])
    if operator in ("equals", "eq", "not_equals", "neq", "contains", "not_contains"):
        return values
    return st.sampled_from([0, 1, 0.1, 2**53, 2.0**60, *TIMES])


OPERATORS = [
    *("equals", "eq", "not_equals", "neq", "exists", "not_exists", "in", "contains", "not_contains"),
    *("greater_than", "gt", "gte", "less_than", "lt", "lte", "within", "not_within"),
]


TIMED = frozenset({"within", "not_within"})
BUILT_IN = {
    "$subject.created_at": ["exists", "not_exists", "greater_than", "gte", "less_than", "lte", "within", "not_within"],
    "$subject.last_event_at": ["exists", "not_exists", "gt", "gte", "lt", "lte", "within", "not_within"],
    "$subject.time_zone": ["exists", "not_exists", "equals", "not_equals", "in", "contains", "not_contains"],
}


@st.composite
def attribute_leaves(draw: st.DrawFn, paths: tuple[str, ...] = (*PATHS, *ENTRY_PATHS, *BUILT_IN)) -> Document:
    path = draw(st.sampled_from(paths))
    operator = draw(st.sampled_from(BUILT_IN.get(path, OPERATORS)))
    document: Document = {"kind": "attribute", "fieldPath": path, "operator": operator}
    value = draw(_operands(operator))
    if value is not None:
        document["value"] = value
    return document


property_leaves = attribute_leaves(tuple(PATHS)).filter(lambda leaf: leaf["operator"] not in TIMED)
wheres = st.one_of(property_leaves, property_leaves.map(lambda leaf: {"kind": "not", "clause": leaf}))
cohort_leaves = st.sampled_from(COHORTS).map(lambda cohort: {"kind": "in_cohort", "cohortId": cohort})
document_leaves: st.SearchStrategy[Document] = st.one_of(
    st.just({"kind": "everyone"}),
    event_leaves(),
    any_event_leaves,
    attribute_leaves(),
    attribute_leaves(),
    cohort_leaves,
)


def _composites(inner: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    clauses = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), clauses).map(lambda pair: {"kind": pair[0], "clauses": pair[1]}),
        inner.map(lambda clause: {"kind": "not", "clause": clause}),
    )


documents: st.SearchStrategy[Document] = st.recursive(document_leaves, _composites, max_leaves=6)
