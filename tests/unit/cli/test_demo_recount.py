"""The recount of the example, and the comparison with the ledgers."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.cli import demo_recount
from orchestrator.cli.demo_example import read_example
from orchestrator.cli.demo_ledger import Difference, Ledger, differences
from orchestrator.cli.demo_recount import Recount, recount


def person(subject_id: str, plan: str = "free", **refuses: Any) -> dict[str, Any]:
    return {"id": subject_id, "attributes": {"plan": plan}, **refuses}


def event(name: str, subject_id: str, event_id: str = "", **properties: Any) -> dict[str, Any]:
    event_id = event_id or f"{name}-{subject_id}"
    return {"eventId": event_id, "name": name, "subjectId": subject_id, "properties": properties}


def ledger_of(expected: Recount) -> Ledger:
    """The ledger as it must be."""
    travels = {subject_id: (travel,) for subject_id, travel in expected.travels.items()}
    return Ledger(travels=travels, workflow_ids={}, refused=dict(expected.refused))


def arms(expected: Recount) -> dict[str, str]:
    return {subject_id: travel.visits[2][2] for subject_id, travel in expected.travels.items()}


def test_who_buys_and_keeps_it_is_thanked_and_others_are_nudged_unless_they_pay_most() -> None:
    people = [person("a"), person("b"), person("c"), person("d", "enterprise"), person("e", "enterprise")]
    signups = [event("signed_up", who["id"]) for who in people]
    bought = [event("purchase", "a"), event("purchase", "b"), event("refund", "b"), event("purchase", "e")]

    expected = recount(people, signups + bought)

    assert arms(expected) == {"a": "bought", "b": "otherwise", "c": "otherwise", "d": "enterprise", "e": "bought"}
    assert expected.travels["a"].sends == (("greet", "welcome", "sent"), ("thank", "thanks", "sent"))
    assert [visit[0] for visit in expected.travels["d"].visits] == ["greet", "look-around", "bought-something", "done"]
    assert expected.refused == {}


def test_each_refused_sign_up_has_the_first_reason_that_holds() -> None:
    people = [
        person("robot", "staff"),
        person("staff", "staff", suppressed="bounced"),
        person("again"),
        person("bounced", suppressed="bounced", optOut={}),
        person("silent", optOut={}),
    ]
    events = [event("signed_up", who["id"], robot=who["id"] == "robot") for who in people]
    events += [event("signed_up", "again"), event("signed_up", "again", "another"), event("signed_up", "silent", "b")]

    expected = recount(people, events)

    assert set(expected.travels) == {"again"}
    assert expected.refused == {
        "trigger_predicate": 1,
        "audience": 1,
        "re_entry": 1,
        "suppressed": 1,
        "opted_out": 2,
    }


def test_who_opts_out_once_greeted_travels_on_and_is_sent_nothing_more() -> None:
    late = {"channel": "*", "category": "marketing", "after": "greet"}
    people = [person("a", optOut=late), person("b", optOut=late), person("c", "enterprise", optOut=late)]
    events = [event("signed_up", who) for who in "abc"] + [event("purchase", "a"), event("signed_up", "a", "again")]

    expected = recount(people, events)

    assert [expected.travels[who].visits[3] for who in "ab"] == [
        ("thank", "skipped", "opted_out"),
        ("nudge", "skipped", "opted_out"),
    ]
    assert {travel.sends for travel in expected.travels.values()} == {(("greet", "welcome", "sent"),)}
    assert {travel.visits[-1] for travel in expected.travels.values()} == {("done", "executed", "")}
    assert expected.refused == {"re_entry": 1}


def test_the_recount_shares_nothing_with_what_it_counts() -> None:
    tree = ast.parse(Path(demo_recount.__file__).read_text())

    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "collections", "collections.abc", "dataclasses", "typing"}


def test_the_example_comes_by_every_step_and_every_reason() -> None:
    example = read_example()

    expected = recount(example.people, example.events)

    assert len(example.people) == 200
    assert {visit[0] for travel in expected.travels.values() for visit in travel.visits} == set(example.steps)
    assert min(Counter(arms(expected).values()).values()) >= 5
    skipped = Counter(
        visit[0] for travel in expected.travels.values() for visit in travel.visits if visit[1] == "skipped"
    )
    assert skipped == {"thank": 3, "nudge": 4}
    assert set(expected.refused) == {"trigger_predicate", "audience", "re_entry", "suppressed", "opted_out"}


def test_the_example_can_be_run_again_with_other_people() -> None:
    example = read_example()

    second = example.again(2)

    assert not example.subject_ids & second.subject_ids
    assert not {e["eventId"] for e in example.events} & {e["eventId"] for e in second.events}
    assert recount(second.people, second.events).refused == recount(example.people, example.events).refused


def test_equal_ledgers_do_not_differ() -> None:
    example = read_example()
    expected = recount(example.people, example.events)

    assert list(differences(expected, ledger_of(expected))) == []


def test_a_wrong_branch_of_one_person_is_a_difference() -> None:
    expected = recount([person("a"), person("b")], [event("signed_up", "a"), event("signed_up", "b")])
    bought = recount([person("b")], [event("signed_up", "b"), event("purchase", "b")])
    ledger = ledger_of(expected)

    found = list(differences(expected, replace(ledger, travels={**ledger.travels, "b": (bought.travels["b"],)})))

    assert found == [
        Difference("b", "visit", "bought-something executed otherwise", "bought-something executed bought"),
        Difference("b", "visit", "nudge executed", "thank executed"),
        Difference("b", "send", "nudge nudge sent", "thank thanks sent"),
    ]


def test_missing_doubled_and_unfinished_executions_are_differences() -> None:
    expected = recount([person("a"), person("b"), person("c")], [event("signed_up", who) for who in "abc"])
    travel = expected.travels["a"]
    waiting = replace(travel, visits=travel.visits[:1], sends=travel.sends[:1], outcome="running", reason="")
    travels = {"b": (travel, travel), "c": (waiting,), "d": (travel,)}

    found = list(differences(expected, replace(ledger_of(expected), travels=travels)))

    assert Difference("a", "executions", "1", "0") in found
    assert Difference("b", "executions", "1", "2") in found
    assert Difference("c", "visit", "look-around executed", "—") in found
    assert Difference("c", "end", "completed welcomed", "running") in found
    assert Difference("d", "executions", "0", "1") in found


def test_refusals_are_compared_reason_by_reason() -> None:
    expected = Recount(travels={}, refused={"audience": 2, "re_entry": 1})

    found = list(differences(expected, Ledger(travels={}, workflow_ids={}, refused={"audience": 1, "too_old": 2})))

    assert found == [
        Difference("refused: audience", "entries", "2", "1"),
        Difference("refused: re_entry", "entries", "1", "0"),
        Difference("refused: too_old", "entries", "0", "2"),
    ]
