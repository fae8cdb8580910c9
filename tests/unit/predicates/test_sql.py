"""What statements are made of. What they answer is tested against a database (tests/conformance)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.predicates.evaluate import Missing
from orchestrator.predicates.facts import needs
from orchestrator.predicates.parse import parse
from orchestrator.predicates.sql.inputs import Among
from orchestrator.predicates.sql.query import MAX_GROUP_LEAVES, Query, compile, missing_cohorts
from orchestrator.predicates.tree import ANY_EVENT, Attribute, InCohort, Operator, Predicate, Source
from tests.conformance.dice import throw

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
BUY = Source(name="buy")
WEEK = {"type": "last_n_days", "days": 7}


def compiled(*documents: dict[str, Any], as_of: datetime = NOW, among: Among = Among.BUCKETS) -> Query:
    return compile(
        {number: parsed(document) for number, document in enumerate(documents, 1)},
        name_nos={BUY: 5, ANY_EVENT: 0, Source(name="never"): None},
        cohort_nos={"vip": 9},
        as_of=as_of,
        among=among,
    )


def parsed(document: dict[str, Any]) -> Predicate:
    predicate, faults = parse(document)
    assert predicate is not None, faults
    return predicate


def attribute(path: str, operator: str, value: object = None) -> dict[str, Any]:
    leaf = {"kind": "attribute", "fieldPath": path, "operator": operator}
    return leaf if value is None else leaf | {"value": value}


def event(name: str = "buy", **more: Any) -> dict[str, Any]:
    return {"kind": "event_fired", "eventName": name, **more}


@pytest.mark.parametrize("among", Among)
def test_nothing_that_people_wrote_is_in_the_text(among: Among) -> None:
    evil = "'; DROP TABLE subjects; --"
    documents = [
        attribute(f"{evil}.x", "exists"),
        attribute("x", "equals", evil),
        attribute("x", "equals", {evil: 123_456}),
        attribute("x", "in", f"{evil}, 123456"),
        attribute("x", "in", [evil, 123_456, True]),
        attribute("x", "contains", evil),
        attribute("x", "contains", [evil]),
        attribute("x", "gt", 123_456),
        attribute("x", "gt", "2026-01-23T12:34:56Z"),
        attribute("x", "within", {"minutes": 123_456}),
        event(window={"type": "since", "time": "2026-01-23T12:34:56Z"}),
        event(window={"type": "last", "duration": "123456s"}),
    ]

    query = compiled(*documents, among=among)

    assert not re.search("DROP|123.?456|12:34", query.text)
    assert "DROP" in str(query.arguments)


def test_parameters_are_numbered_without_gaps_and_leave_the_first_three_to_the_caller() -> None:
    query = compiled(attribute("x", "gt", 1), attribute("t", "within", "1d"), event(window=WEEK))

    used = {int(number) for number in re.findall(r"\$(\d+)", query.text)}
    assert used == set(range(1, query.next_parameter))
    assert query.next_parameter == 4 + len(query.arguments)


@pytest.mark.parametrize("among", Among)
def test_the_text_can_stand_in_parentheses_and_reads_no_clock(among: Among) -> None:
    thrown = throw(1, subjects=1, leaves=200, trees=20)
    numbers = {source: number for number, source in enumerate(needs(thrown.questions.values()).events)}
    cohorts = {"vip": 1, "trial": 2}
    query = compile(thrown.questions, name_nos=numbers, cohort_nos=cohorts, as_of=thrown.as_of, among=among)

    assert ";" not in query.text
    assert "--" not in query.text
    assert query.text.count("(") == query.text.count(")")
    assert not re.search(r"\b(now|clock_timestamp|current_\w+|localtime\w*)\b", query.text, re.IGNORECASE)


def test_one_text_serves_every_instant() -> None:
    questions = [attribute("t", "within", "1d"), event(window=WEEK), attribute("$subject.created_at", "within", "1d")]

    early, late = compiled(*questions), compiled(*questions, as_of=NOW + timedelta(hours=5))

    assert early.text == late.text
    assert early.arguments != late.arguments


def test_a_leaf_is_answered_once_wherever_it_stands() -> None:
    leaf = attribute("x", "contains", "a")

    query = compiled(leaf, {"kind": "not", "clause": leaf}, attribute("x", "not_contains", "a"))

    assert query.text.count("strpos") == 1


def test_values_that_python_takes_for_each_other_are_leaves_of_their_own() -> None:
    query = compiled(attribute("x", "eq", True), attribute("x", "eq", 1), attribute("x", "eq", "1"))

    assert query.text.count("IS TRUE") == 3


def test_tables_that_nobody_asks_about_are_not_read() -> None:
    query = compiled(attribute("x", "eq", 1), event("never", window=WEEK, atLeast=2))

    assert re.findall(r"FROM (\w+) AS \w", query.text) == ["subjects"]


def test_raw_events_are_looked_at_for_windows_of_several_only() -> None:
    assert "FROM events" not in compiled(event(window=WEEK), event(atLeast=5)).text
    assert "FROM events" in compiled(event(window=WEEK, atLeast=2)).text


def test_a_segment_that_is_gone_makes_its_questions_unanswerable() -> None:
    question = parsed({"kind": "and", "clauses": [{"kind": "in_cohort", "cohortId": one} for one in ("z", "vip", "b")]})

    assert missing_cohorts(question, {"vip": 9}) == {"b", "z"}
    with pytest.raises(Missing) as raised:
        compile({1: question}, name_nos={}, cohort_nos={"vip": 9}, as_of=NOW)
    assert raised.value.id == "b"


def test_rules_that_were_put_in_are_no_list() -> None:
    question = InCohort(cohort_id="active", rules=parsed(event(window=WEEK)))

    assert missing_cohorts(question, {}) == set()
    assert "static_members" not in compile({1: question}, name_nos={BUY: 5}, cohort_nos={}, as_of=NOW).text


def test_more_leaves_than_one_select_holds_are_asked_side_by_side() -> None:
    questions: dict[int, Predicate] = {
        number: Attribute(path=(f"x{number}",), operator=Operator.CONTAINS, value="a")
        for number in range(1, 2 * MAX_GROUP_LEAVES + 2)
    }

    text = compile(questions, name_nos={}, cohort_nos={}, as_of=NOW).text

    assert text.count("FROM subjects") == 3


def test_settings_are_for_what_is_asked_about() -> None:
    by_bucket, by_name = compiled(), compiled(among=Among.SUBJECTS)

    assert by_bucket.settings["plan_cache_mode"] == by_name.settings["plan_cache_mode"] == "force_custom_plan"
    assert by_bucket.settings["random_page_cost"] == "4"
    assert "random_page_cost" not in by_name.settings
