"""The cases that every engine which answers predicates has to agree on (predicates.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from asyncpg import Connection, Record

from orchestrator.predicates.cohorts import Cohorts
from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Predicate
from tests.conformance.tables import Tables, write_worlds
from tests.conformance.worlds import Happened, World, facts_for

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("predicates.json").read_text("utf-8"))
DEFAULT_AS_OF = "2026-03-10T12:00:00Z"

Verdict = bool | dict[str, str]


def instant(text: str) -> datetime:
    parsed = parse_instant(text)
    assert parsed is not None, f"{text} in predicates.json is not an instant"
    return parsed


def happened(event: str | dict[str, Any]) -> Happened:
    """An event is its instant, or an object with its instant and properties."""
    if isinstance(event, str):
        return Happened(instant(event))
    return Happened(instant(event["at"]), event["properties"])


def world_of(case: dict[str, Any], subject: dict[str, Any]) -> World:
    return World(
        attributes=subject.get("attributes", {}),
        entry=subject.get("entry", {}),
        events={name: [happened(event) for event in events] for name, events in subject.get("events", {}).items()},
        cohorts=frozenset(subject.get("cohorts", ())),
        known_cohorts=frozenset(case.get("knownCohorts", ())),
        created_at=instant(subject["createdAt"]) if "createdAt" in subject else None,
        time_zone=subject.get("timeZone"),
    )


def as_of(subject: dict[str, Any]) -> datetime:
    return instant(subject.get("asOf", DEFAULT_AS_OF))


def predicate_of(case: dict[str, Any]) -> Predicate:
    """With the `rules` of its cohorts put in."""
    rules = {cohort: parsed(document) for cohort, document in case.get("rules", {}).items()}
    return Cohorts(rules).inline(parsed(case["predicate"], About[case.get("about", "subject").upper()]))


def parsed(document: dict[str, Any], about: About = About.SUBJECT) -> Predicate:
    predicate, faults = parse(document, about=about)
    assert predicate is not None, faults
    return predicate


def answer(predicate: Predicate, world: World, as_of: datetime) -> Verdict:
    try:
        return evaluate(predicate, facts_for(predicate, world), as_of)
    except Missing as missing:
        return {"missing": missing.id}


async def answer_of_tables(tables: Tables, number: int, predicate: Predicate, as_of: datetime) -> Verdict:
    try:
        answers = await tables.ask_about([number], {1: predicate}, as_of)
    except Missing as missing:
        return {"missing": missing.id}
    return answers[number].holds == {1}


def wrong(case: dict[str, Any], verdicts: list[Verdict]) -> list[tuple[dict[str, Any], Verdict]]:
    return [
        (subject, verdict)
        for subject, verdict in zip(case["subjects"], verdicts, strict=True)
        if verdict != subject["holds"] or type(verdict) is not type(subject["holds"])
    ]


def reads_entry(case: Mapping[str, Any]) -> bool:
    """Asks about the event that started an execution, which is known for one subject at a time."""
    return any("entry" in subject for subject in case["subjects"])


def test_case_names_are_unique() -> None:
    names = [case["name"] for case in CASES]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_every_subject_of_a_case_is_answered_as_written(case: dict[str, Any]) -> None:
    predicate = predicate_of(case)

    verdicts = [answer(predicate, world_of(case, subject), as_of(subject)) for subject in case["subjects"]]

    assert wrong(case, verdicts) == []


@pytest.mark.parametrize("case", [case for case in CASES if not reads_entry(case)], ids=lambda case: str(case["name"]))
async def test_the_database_answers_every_subject_of_a_case_as_written(
    case: dict[str, Any], tables_owner: Connection[Record]
) -> None:
    predicate = predicate_of(case)
    worlds = [world_of(case, subject) for subject in case["subjects"]]
    tables = await write_worlds(tables_owner, worlds, [predicate])

    verdicts = [
        await answer_of_tables(tables, number, predicate, as_of(subject))
        for number, subject in enumerate(case["subjects"])
    ]

    assert wrong(case, verdicts) == []


@pytest.mark.parametrize("case", [case for case in CASES if reads_entry(case)], ids=lambda case: str(case["name"]))
def test_what_the_database_is_not_asked_cannot_be_asked_of_many(case: dict[str, Any]) -> None:
    _, faults = parse(case["predicate"])

    assert {fault.reason for fault in faults} == {"LEAF_NOT_ALLOWED"}
