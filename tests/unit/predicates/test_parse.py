"""What is refused, where, and why; and that nothing hostile gets further."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Attribute, EventFired, Ever, Last, Operator, Since, Source

HUGE = "x" * 8193


def leaf(**members: Any) -> dict[str, Any]:
    return {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"} | members


def event(**members: Any) -> dict[str, Any]:
    return {"kind": "event_fired", "eventName": "purchase"} | members


def found(document: object, path: str = "", about: About = About.SUBJECT) -> list[tuple[str, str]]:
    predicate, faults = parse(document, path, about=about)
    assert (predicate is None) == bool(faults)
    return [(fault.path, fault.reason) for fault in faults]


REFUSED: list[tuple[object, list[tuple[str, str]]]] = [
    # nodes
    (None, [("", "INVALID_VALUE")]),
    ([], [("", "INVALID_VALUE")]),
    ("everyone", [("", "INVALID_VALUE")]),
    ({}, [("kind", "UNKNOWN_KIND")]),
    ({"kind": None}, [("kind", "UNKNOWN_KIND")]),
    ({"kind": ["and"]}, [("kind", "UNKNOWN_KIND")]),
    ({"kind": "AND"}, [("kind", "UNKNOWN_KIND")]),
    ({"kind": "any_event", "window": {"type": "never"}}, [("window.type", "INVALID_WINDOW")]),
    ({"kind": "any_event", "eventName": "buy"}, [("eventName", "UNKNOWN_FIELD")]),
    ({"kind": "any_event", "atLeast": 2}, [("atLeast", "UNKNOWN_FIELD")]),
    ({"kind": "everyone", "clauses": []}, [("clauses", "UNKNOWN_FIELD")]),
    # composites
    ({"kind": "and"}, [("clauses", "EMPTY_CLAUSES")]),
    ({"kind": "or", "clauses": []}, [("clauses", "EMPTY_CLAUSES")]),
    ({"kind": "and", "clauses": None}, [("clauses", "EMPTY_CLAUSES")]),
    ({"kind": "and", "clauses": {}}, [("clauses", "INVALID_VALUE")]),
    ({"kind": "and", "clauses": [None]}, [("clauses[0]", "INVALID_VALUE")]),
    ({"kind": "and", "clauses": [event()], "clause": event()}, [("clause", "UNKNOWN_FIELD")]),
    ({"kind": "not"}, [("clause", "CLAUSE_REQUIRED")]),
    ({"kind": "not", "clause": None}, [("clause", "CLAUSE_REQUIRED")]),
    ({"kind": "not", "clause": []}, [("clause", "INVALID_VALUE")]),
    # event leaves
    ({"kind": "event_fired"}, [("eventName", "EVENT_NAME_REQUIRED")]),
    (event(eventName=""), [("eventName", "EVENT_NAME_REQUIRED")]),
    (event(eventName="  "), [("eventName", "EVENT_NAME_REQUIRED")]),
    (event(eventName=5), [("eventName", "INVALID_VALUE")]),
    (event(eventName=HUGE), [("eventName", "TOO_LARGE")]),
    (event(eventName="é" * 4097), [("eventName", "TOO_LARGE")]),
    ({"kind": "event_not_fired"}, [("eventName", "EVENT_NAME_REQUIRED")]),
    (event(atLeast=0), [("atLeast", "INVALID_VALUE")]),
    (event(atLeast=1001), [("atLeast", "INVALID_VALUE")]),
    (event(atLeast=1.5), [("atLeast", "INVALID_VALUE")]),
    (event(atLeast="2"), [("atLeast", "INVALID_VALUE")]),
    (event(atLeast=True), [("atLeast", "INVALID_VALUE")]),
    (event(atLeast=10**400), [("atLeast", "INVALID_VALUE")]),
    (event(where={"kind": "and"}), [("where.clauses", "EMPTY_CLAUSES")]),
    (event(where=[]), [("where", "INVALID_VALUE")]),
    (event(where=event()), [("where.kind", "LEAF_NOT_ALLOWED")]),
    (event(where={"kind": "any_event"}), [("where.kind", "LEAF_NOT_ALLOWED")]),
    (event(where={"kind": "in_cohort", "cohortId": "vip"}), [("where.kind", "LEAF_NOT_ALLOWED")]),
    (event(where=leaf(fieldPath="$subject.created_at")), [("where.fieldPath", "LEAF_NOT_ALLOWED")]),
    (event(where=leaf(fieldPath="$entry.a")), [("where.fieldPath", "LEAF_NOT_ALLOWED")]),
    (event(where=leaf(operator="within", value="7d")), [("where.operator", "OPERATOR_NOT_ALLOWED")]),
    (leaf(fieldPath="$subject.created_at", operator="equals", value="x"), [("operator", "OPERATOR_NOT_ALLOWED")]),
    (leaf(fieldPath="$subject.time_zone", operator="within", value="7d"), [("operator", "OPERATOR_NOT_ALLOWED")]),
    (event(at_least=2), [("at_least", "UNKNOWN_FIELD")]),
    (event(window=7), [("window", "INVALID_WINDOW")]),
    (event(window={}), [("window.type", "INVALID_WINDOW")]),
    (event(window={"type": "last_month"}), [("window.type", "INVALID_WINDOW")]),
    (event(window={"type": ["ever"]}), [("window.type", "INVALID_WINDOW")]),
    (event(window={"type": "ever", "days": 7}), [("window.days", "UNKNOWN_FIELD")]),
    (event(window={"type": "last_n_days"}), [("window.days", "INVALID_WINDOW")]),
    (event(window={"type": "last_n_days", "days": 0}), [("window.days", "INVALID_WINDOW")]),
    (event(window={"type": "last_n_days", "days": -7}), [("window.days", "INVALID_WINDOW")]),
    (event(window={"type": "last_n_days", "days": 36501}), [("window.days", "INVALID_WINDOW")]),
    (event(window={"type": "last_n_days", "days": 0.5}), [("window.days", "INVALID_WINDOW")]),
    (event(window={"type": "last_n_days", "days": True}), [("window.days", "INVALID_WINDOW")]),
    (event(window={"type": "last_n_days", "days": float("nan")}), [("window.days", "INVALID_WINDOW")]),
    (event(window={"type": "last"}), [("window.duration", "INVALID_WINDOW")]),
    (event(window={"type": "last", "duration": "0s"}), [("window.duration", "INVALID_WINDOW")]),
    (event(window={"type": "last", "duration": "P1M"}), [("window.duration", "INVALID_WINDOW")]),
    (event(window={"type": "last", "duration": "9" * 60 + "w"}), [("window.duration", "INVALID_WINDOW")]),
    (event(window={"type": "last", "duration": 7}), [("window.duration", "INVALID_WINDOW")]),
    (event(window={"type": "since"}), [("window.time", "INVALID_WINDOW")]),
    (event(window={"type": "since", "time": "2026-01-01"}), [("window.time", "INVALID_WINDOW")]),
    (event(window={"type": "since", "time": "99999-01-01T00:00:00Z"}), [("window.time", "INVALID_WINDOW")]),
    # attribute leaves
    ({"kind": "attribute", "operator": "exists"}, [("fieldPath", "FIELD_PATH_REQUIRED")]),
    (leaf(fieldPath=""), [("fieldPath", "FIELD_PATH_REQUIRED")]),
    (leaf(fieldPath=5), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath=HUGE), [("fieldPath", "TOO_LARGE")]),
    (leaf(fieldPath="a..b"), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath=".a"), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath="a."), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath="a\\"), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath="a\\n"), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath="$subject.name"), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath="$subject"), [("fieldPath", "INVALID_VALUE")]),
    (leaf(fieldPath="$entry.amount"), [("fieldPath", "LEAF_NOT_ALLOWED")]),
    (leaf(fieldPath="$steps.hook.status"), [("fieldPath", "LEAF_NOT_ALLOWED")]),
    (leaf(operator=None), [("operator", "UNKNOWN_OPERATOR")]),
    (leaf(operator="like"), [("operator", "UNKNOWN_OPERATOR")]),
    (leaf(operator=["equals"]), [("operator", "UNKNOWN_OPERATOR")]),
    (leaf(value=None), [("value", "VALUE_REQUIRED")]),
    ({"kind": "attribute", "fieldPath": "a", "operator": "gt"}, [("value", "VALUE_REQUIRED")]),
    (leaf(operator="gt", value="5"), [("value", "VALUE_NOT_ORDERABLE")]),
    (leaf(operator="gte", value=True), [("value", "VALUE_NOT_ORDERABLE")]),
    (leaf(operator="lt", value="2026-01-01"), [("value", "VALUE_NOT_ORDERABLE")]),
    (leaf(operator="lte", value=[1]), [("value", "VALUE_NOT_ORDERABLE")]),
    (leaf(operator="greater_than", value=float("nan")), [("value", "VALUE_NOT_ORDERABLE")]),
    (leaf(operator="less_than", value=float("inf")), [("value", "VALUE_NOT_ORDERABLE")]),
    (leaf(value=HUGE), [("value", "TOO_LARGE")]),
    (leaf(value=[0, {"a": HUGE}]), [("value[1].a", "TOO_LARGE")]),
    (leaf(value={"a": [float("inf")]}), [("value.a[0]", "INVALID_VALUE")]),
    (leaf(value=datetime(2026, 1, 1, tzinfo=UTC)), [("value", "INVALID_VALUE")]),
    (leaf(value={1: 2}), [("value", "INVALID_VALUE")]),
    (leaf(value=[0] * 1001), [("value", "TOO_LARGE")]),
    (leaf(value=[[0] * 600, [0] * 600]), [("value", "TOO_LARGE")]),
    (leaf(operator="in", value=[]), [("value", "VALUE_REQUIRED")]),
    (leaf(operator="in", value=" , "), [("value", "VALUE_REQUIRED")]),
    (leaf(operator="in", value=5), [("value", "INVALID_VALUE")]),
    (leaf(operator="in", value={"a": 1}), [("value", "INVALID_VALUE")]),
    (leaf(operator="in", value=["a", None, 1, None]), [("value[1]", "INVALID_VALUE"), ("value[3]", "INVALID_VALUE")]),
    (leaf(operator="in", value=[0] * 1001), [("value", "TOO_LARGE")]),
    (leaf(operator="in", value="a," * 1001), [("value", "TOO_LARGE")]),
    (leaf(operator="in", value="," * 8193), [("value", "TOO_LARGE")]),
    (leaf(operator="within", value=7), [("value", "INVALID_VALUE")]),
    (leaf(operator="within", value="seven days"), [("value", "INVALID_VALUE")]),
    (leaf(operator="within", value="0d"), [("value", "INVALID_VALUE")]),
    (leaf(operator="within", value={}), [("value", "INVALID_VALUE")]),
    (leaf(operator="within", value={"days": 1, "hours": 2}), [("value", "INVALID_VALUE")]),
    (leaf(operator="within", value={"weeks": 1}), [("value.weeks", "UNKNOWN_FIELD"), ("value", "INVALID_VALUE")]),
    (leaf(operator="not_within", value={"days": 0}), [("value.days", "INVALID_VALUE")]),
    (leaf(operator="not_within", value={"hours": "2"}), [("value.hours", "INVALID_VALUE")]),
    (leaf(operator="not_within", value={"minutes": 10**30}), [("value.minutes", "INVALID_VALUE")]),
    (leaf(operator="not_within", value={"hours": 36500 * 24 + 1}), [("value.hours", "INVALID_VALUE")]),
    (leaf(op="equals"), [("op", "UNKNOWN_FIELD")]),
    # cohorts
    ({"kind": "in_cohort"}, [("cohortId", "COHORT_NOT_FOUND")]),
    ({"kind": "in_cohort", "cohortId": ""}, [("cohortId", "COHORT_NOT_FOUND")]),
    ({"kind": "in_cohort", "cohortId": 5}, [("cohortId", "INVALID_VALUE")]),
    ({"kind": "in_cohort", "cohortId": "a", "id": "b"}, [("id", "UNKNOWN_FIELD")]),
]


@pytest.mark.parametrize(("document", "faults"), REFUSED, ids=lambda part: repr(part)[:60])
def test_what_is_wrong_is_named_with_its_place(document: object, faults: list[tuple[str, str]]) -> None:
    assert found(document) == faults


def test_all_faults_come_together_under_the_callers_path() -> None:
    document = {
        "kind": "and",
        "note": "mine",
        "clauses": [
            {"kind": "event_fired", "window": {"type": "last_n_days", "days": 0}, "atLeast": 0},
            {"kind": "or", "clauses": []},
            {"kind": "not", "clause": {"kind": "attribute", "operator": "gt", "value": "x", "extra": 1}},
            {"kind": "everyone"},
        ],
    }

    assert found(document, "steps[2].branch.arms[0].when") == [
        ("steps[2].branch.arms[0].when.note", "UNKNOWN_FIELD"),
        ("steps[2].branch.arms[0].when.clauses[0].eventName", "EVENT_NAME_REQUIRED"),
        ("steps[2].branch.arms[0].when.clauses[0].window.days", "INVALID_WINDOW"),
        ("steps[2].branch.arms[0].when.clauses[0].atLeast", "INVALID_VALUE"),
        ("steps[2].branch.arms[0].when.clauses[1].clauses", "EMPTY_CLAUSES"),
        ("steps[2].branch.arms[0].when.clauses[2].clause.fieldPath", "FIELD_PATH_REQUIRED"),
        ("steps[2].branch.arms[0].when.clauses[2].clause.value", "VALUE_NOT_ORDERABLE"),
        ("steps[2].branch.arms[0].when.clauses[2].clause.extra", "UNKNOWN_FIELD"),
    ]


def test_messages_quote_no_values() -> None:
    for document, _ in REFUSED:
        for fault in parse(document)[1]:
            assert len(fault.message) < 300
            assert "xxx" not in fault.message


def test_an_events_predicate_knows_its_properties_only() -> None:
    document = {
        "kind": "and",
        "clauses": [leaf(), event(), {"kind": "in_cohort", "cohortId": "a"}, {"kind": "everyone"}],
    }

    assert found(document, about=About.EVENT) == [
        ("clauses[1].kind", "LEAF_NOT_ALLOWED"),
        ("clauses[2].kind", "LEAF_NOT_ALLOWED"),
    ]
    assert found(leaf(fieldPath="$entry.amount"), about=About.EVENT) == [("fieldPath", "LEAF_NOT_ALLOWED")]
    assert found({"kind": "not", "clause": leaf()}, about=About.EVENT) == []


def test_a_journeys_predicate_may_read_the_triggering_event() -> None:
    assert found(leaf(fieldPath="$entry.amount"), about=About.EXECUTION) == []
    assert found(leaf(fieldPath="$entry"), about=About.EXECUTION) == [("fieldPath", "INVALID_VALUE")]
    assert found(leaf(fieldPath="$steps.a.b"), about=About.EXECUTION) == []
    assert found(leaf(fieldPath="$steps.a"), about=About.EXECUTION) == [("fieldPath", "INVALID_VALUE")]


def test_names_with_a_dollar_are_ordinary_otherwise() -> None:
    assert found(leaf(fieldPath="$browser")) == []
    assert found(leaf(fieldPath="a.$entry")) == []


def test_leaves_are_read_with_their_defaults() -> None:
    assert parse(event())[0] == EventFired(source=Source(name="purchase"), window=Ever(), at_least=1, negated=False)
    assert parse(event(window=None, atLeast=None))[0] == parse(event())[0]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"type": "last_n_days", "days": 7}, Last(duration=timedelta(days=7))),
        ({"type": "last_n_days", "days": 7.0}, Last(duration=timedelta(days=7))),
        ({"type": "last", "duration": "1d12h"}, Last(duration=timedelta(hours=36))),
        ({"type": "last", "duration": "PT90M"}, Last(duration=timedelta(minutes=90))),
        ({"type": "since", "time": "2026-01-01T02:00:00+02:00"}, Since(time=datetime(2026, 1, 1, tzinfo=UTC))),
    ],
)
def test_windows_are_read(window: dict[str, Any], expected: object) -> None:
    predicate, _ = parse(event(window=window, atLeast=2.0, kind="event_not_fired"))

    assert predicate == EventFired(source=Source(name="purchase"), window=expected, at_least=2, negated=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spelling", "operator"),
    [
        ("eq", Operator.EQUALS),
        ("neq", Operator.NOT_EQUALS),
        ("gt", Operator.GREATER_THAN),
        ("gte", Operator.GREATER_OR_EQUAL),
        ("lt", Operator.LESS_THAN),
        ("lte", Operator.LESS_OR_EQUAL),
    ],
)
def test_both_spellings_of_an_operator_are_one(spelling: str, operator: Operator) -> None:
    assert parse(leaf(operator=spelling, value=5))[0] == Attribute(path=("tier",), operator=operator, value=5)


def test_values_become_what_is_compared() -> None:
    def value(operator: str, given: object) -> object:
        predicate, faults = parse(leaf(operator=operator, value=given))
        assert isinstance(predicate, Attribute), faults
        return (predicate.value, predicate.texts)

    assert value("in", " pro, enterprise ,,") == (("pro", "enterprise"), True)
    assert value("in", ["pro", 5]) == (("pro", 5), False)
    assert value("gt", "2026-01-01T02:00:00+02:00") == (datetime(2026, 1, 1, tzinfo=UTC), False)
    assert value("within", {"hours": 36}) == value("within", "1d12h") == (timedelta(hours=36), False)
    assert value("within", {"days": 2.0, "hours": None}) == (timedelta(days=2), False)
    assert value("exists", {"anything": HUGE}) == (None, False)


def nested(levels: int, innermost: object) -> object:
    document = innermost
    for level in range(levels):
        document = {"kind": "not", "clause": document} if level % 2 else {"kind": "and", "clauses": [document]}
    return document


def test_sixteen_levels_fit_and_seventeen_do_not() -> None:
    assert found(nested(15, leaf())) == []
    ((path, reason),) = found(nested(16, leaf()))
    assert reason == "TOO_DEEP"
    assert path.count("clause") == 16


def test_two_hundred_leaves_fit_and_one_more_does_not() -> None:
    assert found({"kind": "or", "clauses": [leaf()] * 200}) == []
    assert found({"kind": "or", "clauses": [leaf()] * 201}, "predicate") == [("predicate", "TOO_LARGE")]
    assert found({"kind": "or", "clauses": [{"kind": "and", "clauses": [leaf()] * 100}] * 3}) == [("", "TOO_LARGE")]


@pytest.mark.parametrize("wide", [leaf(), None, {}, {"kind": "and"}, {"kind": "not"}, nested(15, leaf()), [[]], "x"])
def test_a_million_clauses_cost_no_more_than_two_hundred(wide: object) -> None:
    started = time.process_time()

    faults = found({"kind": "or", "clauses": [wide] * 1_000_000})

    assert ("", "TOO_LARGE") in faults
    assert len(faults) <= 201
    assert time.process_time() - started < 1


def test_depth_without_end_is_refused_and_not_walked() -> None:
    deep_value: object = 1
    for _ in range(100_000):
        deep_value = [deep_value]

    assert [reason for _, reason in found(nested(100_000, leaf()))] == ["TOO_DEEP"]
    assert [reason for _, reason in found(leaf(value=deep_value))] == ["TOO_DEEP"]
    assert [reason for _, reason in found(leaf(operator="in", value=deep_value))] == ["TOO_DEEP"]


def test_a_document_that_contains_itself_is_refused() -> None:
    document: dict[str, Any] = {"kind": "and"}
    document["clauses"] = [document, document]
    value: list[Any] = []
    value.append(value)

    assert ("", "TOO_LARGE") in found(document)
    assert [reason for _, reason in found(leaf(value=value))] == ["TOO_DEEP"]


def test_unknown_fields_are_named_up_to_a_point() -> None:
    document = leaf() | {f"{number}{HUGE}": number for number in range(1000)}

    faults = found(document)

    assert len(faults) == 20
    assert {reason for _, reason in faults} == {"UNKNOWN_FIELD"}
    assert max(len(path) for path, _ in faults) <= 100


def test_fields_that_are_no_text_are_unknown() -> None:
    document: dict[Any, Any] = {**leaf(), 1: 2, None: 3}

    assert found(document) == [("1", "UNKNOWN_FIELD"), ("None", "UNKNOWN_FIELD")]


def test_duplicate_members_are_the_last_of_them() -> None:
    document = json.loads('{"kind": "attribute", "fieldPath": "a", "fieldPath": "b", "operator": "exists"}')

    assert parse(document)[0] == Attribute(path=("b",), operator=Operator.EXISTS, value=None)


def test_broken_unicode_does_no_harm() -> None:
    parse(leaf(fieldPath="\ud800", value="\udfff\0"))
    parse(event(eventName="\ud800" * 3000))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4),
)
kinds = st.sampled_from(["and", "or", "not", "attribute", "event_fired", "event_not_fired", "in_cohort", "everyone"])
names = st.sampled_from(
    [
        "clauses",
        "clause",
        "eventName",
        "window",
        "atLeast",
        "fieldPath",
        "operator",
        "value",
        "cohortId",
        "where",
        "type",
    ]
)
operators = st.sampled_from(["equals", "in", "gt", "within", "contains", "exists"])
nearly_right = st.recursive(
    json_like | kinds | operators,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.builds(
            lambda kind, operator, members: {"kind": kind, "operator": operator, **members},
            kinds | inner,
            operators | inner,
            st.dictionaries(names, inner, max_size=5),
        )
    ),
)


@given(nearly_right, st.sampled_from(About))
def test_nothing_makes_reading_fail(document: object, about: About) -> None:
    for path, reason in found(document, "root", about):
        assert path.startswith("root")
        assert reason.isupper()
